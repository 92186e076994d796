// Package sarif is nothing of its own: it pins the module whose schema of SARIF 2.1.0 tests hold logs against.
package sarif

import _ "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
