//! The story that `make demo` tells, on real servers. It is also a test: every sentence it prints is
//! checked, and the first that does not hold ends it with an error.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clientgrant_testbed::bed::{Bed, BedOptions, CALLBACK};
use clientgrant_testbed::{AuthRequest, ConsentApp, OAuthClient, TokenOutcome, UserAgent};
use jiff::Timestamp;
use serde_json::{Value, json};

const SCOPE: &str = "openid offline_access transactions:read";
/// How long the first grant lasts: long enough to tell the story, short enough to see it end.
const LASTS: u64 = 45;

/// What everybody in the story needs.
struct Story {
    bed: Bed,
    ann: UserAgent,
    reporting: OAuthClient,
    forecast: OAuthClient,
}

/// Tells the story; afterwards stays until Ctrl-C, unless `once`.
pub async fn run(operator: PathBuf, once: bool) -> Result<()> {
    say("Starting etcd, kube-apiserver, Ory Hydra and the operator on loopback");
    let mut options = BedOptions::new(operator);
    let rule = json!({
        "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "finance"}},
        "clients": ["finance-*", "forecast-*"],
        "scopes": ["openid", "offline_access", "transactions:*"],
        "bases": ["SubjectConsent"],
    });
    options.provider["allow"] = json!([rule]);
    let bed = Bed::start(options).await?;
    let story = Story::begin(bed).await?;
    if let Err(error) = story.tell().await {
        eprintln!("\nWhat the operator said last:\n{}", clientgrant_testbed::bed::tail(&story.bed.operator.log()));
        return Err(error);
    }
    say("The story is complete");
    if once {
        return Ok(());
    }
    println!("\nEverything stays up. In another terminal:");
    println!("  export KUBECONFIG={}", story.bed.plane.kubeconfig().display());
    println!("  {} get clientgrants.clientgrant.dev -A", story.bed.plane.kubectl_path().display());
    println!("  Hydra's admin API: {}", story.bed.hydra.admin_url());
    println!("Ctrl-C ends it all.");
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}

impl Story {
    async fn tell(&self) -> Result<()> {
        let end = self.grant_for_the_first().await?;
        self.refusals().await?;
        self.hostile_apps().await?;
        self.expiry(&end).await?;
        self.second_grant().await?;
        self.other_states().await
    }

    async fn begin(bed: Bed) -> Result<Self> {
        say("The IdP's owner has registered two clients. Both hold more than anybody was told");
        let wide = json!({
            "scope": format!("{SCOPE} transactions:write admin"),
            "response_types": ["code", "token"],
            "grant_types": ["authorization_code", "refresh_token", "implicit"],
        });
        let reporting = bed.client("finance-reporting", wide.clone()).await?;
        let forecast = bed.client("forecast-agent", wide).await?;
        println!("  finance-reporting, forecast-agent: scope {SCOPE} transactions:write admin");
        let ann = bed.browser()?;
        Ok(Self { bed, ann, reporting, forecast })
    }

    async fn kubectl(&self, args: &[&str]) -> Result<()> {
        println!("\n$ kubectl {}", args.join(" "));
        print!("{}", self.bed.plane.kubectl(args).await?);
        Ok(())
    }

    async fn table(&self) -> Result<()> {
        self.kubectl(&["get", "clientgrants.clientgrant.dev", "-A"]).await
    }

    async fn apply(&self, file: &str, end: &str) -> Result<()> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/01-two-clients").join(file);
        let yaml = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let yaml = yaml.replace("2027-02-20T00:00:00Z", end);
        println!("\n$ kubectl apply -f {file}   # expiresAt: {end}");
        print!("{}", self.bed.plane.apply_yaml(&yaml).await?);
        Ok(())
    }

    /// Logs in (or stays logged in) and goes through consent with `app`.
    async fn code(
        &self,
        client: &OAuthClient,
        scope: &str,
        subject: &str,
        app: &ConsentApp,
    ) -> Result<Result<String, String>> {
        let other;
        let browser = if subject == "ann" {
            &self.ann
        } else {
            other = self.bed.browser()?;
            &other
        };
        let outcome = browser.authorize(&AuthRequest::new(client.id(), CALLBACK, scope, subject), app).await?;
        Ok(match outcome.code() {
            Some(code) => Ok(code.to_owned()),
            None => Err(format!("{} ({})", outcome.error().unwrap_or("?"), outcome.error_description().unwrap_or(""))),
        })
    }

    async fn tokens(&self, client: &OAuthClient, scope: &str, app: &ConsentApp) -> Result<TokenOutcome> {
        match self.code(client, scope, "ann", app).await? {
            Ok(code) => client.exchange_code(&code, CALLBACK).await,
            Err(error) => bail!("no code: {error}"),
        }
    }

    /// Prints the operator's newest line with this reason.
    async fn because(&self, reason: &str) -> Result<()> {
        self.line(&format!("reason=\"{reason}\"")).await
    }

    /// Prints the operator's newest line with this text.
    async fn line(&self, text: &str) -> Result<()> {
        let line = self.bed.operator.wait_log(text, Duration::from_secs(5)).await?;
        let words = line.split_once(" INFO ").map_or(line.as_str(), |(_, words)| words);
        println!("    operator: {words}");
        self.bed.operator.mark_log();
        Ok(())
    }

    async fn grant_for_the_first(&self) -> Result<String> {
        say("A grant for the first client only, from Git");
        let end = ahead(LASTS);
        self.apply("reporting-ann.yaml", &end).await?;
        self.bed.reason("finance", "reporting-ann", "AwaitingConsent").await?;
        self.table().await?;
        println!(
            "\n  A committed YAML is not ann's consent. She logs in; the consent app asks the operator; she says yes."
        );
        let token = self.tokens(&self.reporting, SCOPE, &self.bed.honest()).await?;
        let access = token.access_token().context("no token although everything was granted")?;
        let read = self.bed.hydra.admin().introspect(access).await?;
        let words = |scope: &str| scope.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
        let exact = words(read["scope"].as_str().unwrap_or_default()) == words(SCOPE);
        ensure!(read["active"] == true && exact, "the token is {read}");
        println!("  Token: active, sub {}, client {}, scope {}", read["sub"], read["client_id"], read["scope"]);
        self.bed.reason("finance", "reporting-ann", "Granted").await?;
        self.table().await?;
        Ok(end)
    }

    async fn refusals(&self) -> Result<()> {
        say("Refused: everything that the grant does not say");
        self.bed.operator.mark_log();
        println!("  The second client, same subject, same login:");
        let answer = self.code(&self.forecast, SCOPE, "ann", &self.bed.honest()).await?;
        ensure!(answer.is_err(), "the second client got a code");
        self.because("UnmanagedClient").await?;
        println!("  … and with a consent app that does not ask:");
        let code = self.code(&self.forecast, SCOPE, "ann", &ConsentApp::grant_all()).await?;
        let code = code.map_err(anyhow::Error::msg)?;
        refused(&self.forecast.exchange_code(&code, CALLBACK).await?)?;
        self.because("UnmanagedClient").await?;
        println!("  Another subject at the first client:");
        let answer = self.code(&self.reporting, SCOPE, "bob", &self.bed.honest()).await?;
        ensure!(answer.is_err(), "another subject got a code");
        self.because("NoGrant").await?;
        println!("  A wider scope (Hydra itself refuses it: the ceiling is the union of the grants):");
        let answer = self.code(&self.reporting, "openid transactions:write", "ann", &self.bed.honest()).await?;
        let error = answer.err().context("a wider scope got a code")?;
        println!("    hydra: {}", error.split_once(". ").map_or(&*error, |(first, _)| first));
        Ok(())
    }

    async fn hostile_apps(&self) -> Result<()> {
        say("Hostile consent apps: Hydra issues whatever they grant, so the operator looks at what they granted");
        let exchange = async |app: ConsentApp| -> Result<()> {
            let token = self.tokens(&self.reporting, SCOPE, &app).await?;
            refused(&token)
        };
        println!("  Grants admin on top:");
        exchange(self.bed.hostile(|body, _, _| push(&mut body["grant_scope"], "admin"))).await?;
        self.because("ConsentBeyondGrant").await?;
        println!("  Adds an audience:");
        exchange(
            self.bed.hostile(|body, _, _| push(&mut body["grant_access_token_audience"], "https://ledger.example.com")),
        )
        .await?;
        self.because("ConsentAudienceBeyondGrant").await?;
        println!("  Makes up a context:");
        exchange(self.bed.hostile(|body, _, _| body["context"]["expiresAt"] = json!("2199-01-01T00:00:00Z"))).await?;
        self.because("ConsentNotProved").await?;
        println!("  Remembers, so that the next login skips it:");
        let remember = |body: &mut Value, _: &Value, _: &Value| {
            body["remember"] = json!(true);
            body["remember_for"] = json!(0);
        };
        exchange(self.bed.hostile(remember)).await?;
        self.because("ConsentRemembered").await?;
        println!("  … and lets the next login skip:");
        let skipping = self.tokens(&self.reporting, SCOPE, &ConsentApp::grant_all()).await?;
        refused(&skipping)?;
        // Skipped, and so in no list; or asked again without the operator, if the pair had ended by then.
        self.line("decision=\"Deny\"").await
    }

    async fn expiry(&self, end: &str) -> Result<()> {
        say("What they left behind is ended with the pair; ann consents once more");
        // The last of them may just have been refused, and is still to be ended.
        let admin = self.bed.hydra.admin();
        let late = Instant::now() + Duration::from_secs(20);
        let of_client = |consent: &Value| consent["consent_request"]["client"]["client_id"] == self.reporting.id();
        while admin.list_consents("ann").await?.iter().any(of_client) {
            ensure!(Instant::now() < late, "what hostile apps left behind is not ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.bed.cleared("finance", "reporting-ann").await?;
        let token = self.tokens(&self.reporting, SCOPE, &self.bed.honest()).await?;
        let access = token.access_token().context("no token although ann consented again")?.to_owned();
        let refresh = token.refresh_token().context("no refresh token")?.to_owned();
        self.bed.reason("finance", "reporting-ann", "Granted").await?;
        ensure!(self.bed.hydra.admin().is_active(&access).await?, "the token is not active");
        println!("  Introspection: active");
        say(&format!("expiresAt: {end}"));
        tokio::time::sleep(left(end)? + Duration::from_secs(2)).await;
        self.bed.operator.mark_log();
        ensure!(!self.bed.hydra.admin().is_active(&access).await?, "the token outlived its grant");
        println!("  Introspection: not active");
        let again = self.reporting.refresh(&refresh).await?;
        ensure!(again.access_token().is_none(), "a refresh outlived its grant");
        println!("  Refresh: {}", again.error().unwrap_or_default());
        self.bed.reason("finance", "reporting-ann", "Expired").await?;
        self.table().await
    }

    async fn second_grant(&self) -> Result<()> {
        say("A grant for the second client, and a new end date for the first");
        let end = ahead(3600);
        self.apply("forecast-ann.yaml", &end).await?;
        self.apply("reporting-ann.yaml", &end).await?;
        self.bed.reason("finance", "forecast-ann", "AwaitingConsent").await?;
        self.bed.reason("finance", "reporting-ann", "AwaitingConsent").await?;
        let first = self.tokens(&self.reporting, SCOPE, &self.bed.honest()).await?;
        let second = self.tokens(&self.forecast, SCOPE, &self.bed.honest()).await?;
        let first = first.access_token().context("no token for the first client")?.to_owned();
        let second = second.access_token().context("no token for the second client")?.to_owned();
        self.bed.reason("finance", "forecast-ann", "Granted").await?;
        self.bed.reason("finance", "reporting-ann", "Granted").await?;
        self.table().await?;
        println!();
        self.kubectl(&["delete", "clientgrants.clientgrant.dev", "-n", "finance", "forecast-ann"]).await?;
        let admin = self.bed.hydra.admin();
        ensure!(!admin.is_active(&second).await?, "the second client's token outlived its grant");
        ensure!(admin.is_active(&first).await?, "deleting the second grant touched the first");
        println!("  Second client: not active. First client: active");
        self.table().await?;
        let left = admin.get_client("forecast-agent").await?;
        println!("\n  What forecast-agent may have now: scope {}, grant types {}", left["scope"], left["grant_types"]);
        Ok(())
    }

    async fn other_states(&self) -> Result<()> {
        say("How the other states look");
        let quarantine = json!({
            "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "incident-42"},
            "spec": {"issuer": self.bed.hydra.issuer(), "clientID": "forecast-agent", "reason": "A leaked secret"},
        });
        self.bed.put("clientquarantines/incident-42", quarantine).await?;
        let end = ahead(3600);
        for (name, spec, reason) in [
            ("suspended", json!({"subject": {"id": "bob"}, "suspend": true}), "Suspended"),
            ("next-hour", json!({"subject": {"id": "cid"}, "notBefore": ahead(1800)}), "NotYetValid"),
            ("too-much", json!({"subject": {"id": "dan"}, "scopes": ["openid", "admin"]}), "NotAllowed"),
            ("reporting-again", json!({}), "Conflict"),
            ("misspelt", json!({"clientID": "finance-reprting"}), "UnknownClient"),
            ("stopped", json!({"clientID": "forecast-agent"}), "Quarantined"),
        ] {
            let mut spec = spec;
            spec["expiresAt"] = json!(end);
            self.bed.grant("finance", name, spec).await?;
            self.bed.reason("finance", name, reason).await?;
        }
        self.table().await
    }
}

fn refused(token: &TokenOutcome) -> Result<()> {
    ensure!(token.access_token().is_none(), "a token was issued: {}", token.json);
    println!("    hydra: {}", token.error().unwrap_or_default());
    Ok(())
}

fn push(list: &mut Value, item: &str) {
    match list.as_array_mut() {
        Some(list) => list.push(json!(item)),
        None => *list = json!([item]),
    }
}

fn say(what: &str) {
    println!("\n== {what}");
}

/// An instant in the form of the spec.
fn ahead(seconds: u64) -> String {
    (Timestamp::now() + Duration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn left(instant: &str) -> Result<Duration> {
    let at: Timestamp = instant.parse().context("not an instant")?;
    let left = at.duration_since(Timestamp::now());
    Duration::try_from(left).context("the story took too long: the grant ended before it was told")
}
