// kstatus reads objects from standard input, as a stream of YAML documents, and prints one line for each: what
// the library that Flux and Helm wait with says of it.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "kstatus: cannot read standard input:", err)
			os.Exit(1)
		}
		fmt.Println(judge(document))
	}
}

// judge says Error for what the library does not take.
func judge(document []byte) string {
	json, err := yaml.YAMLToJSON(document)
	if err != nil {
		return "Error"
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(json); err != nil {
		return "Error"
	}
	result, err := status.Compute(object)
	if err != nil {
		return "Error"
	}
	return result.Status.String()
}
