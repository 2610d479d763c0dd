//! What the process is told by its environment.

use crate::allowed_url::AllowedUrl;
use crate::runtime::{Identity, Scope, secure::Tls, telemetry::LogFormat};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Every address of both families.
pub const DEFAULT_LISTEN_ADDRESS: &str = "[::]:8080";
/// The pods read no longer fault.
const LONGEST_FAULT: Duration = Duration::from_secs(24 * 3_600);

/// Settings of `valerix-operator run`; each has an environment variable of the same meaning.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Name of this pod, shown in events.
    #[arg(long, env = "POD_NAME", default_value = "valerix-operator")]
    pub pod_name: String,
    /// Namespace of the operator: its Lease and its safety ConfigMap are here.
    #[arg(long, env = "POD_NAMESPACE", default_value = "valerix-system")]
    pub pod_namespace: String,
    /// UID of this pod: who holds the Lease. A random one is used when it is missing.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: Option<String>,
    /// Namespaces to work in, separated by commas. Empty: all of them.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespaces in which experiments may evict pods, separated by commas. Empty: none.
    #[arg(long, env = "CHAOS_NAMESPACES", value_delimiter = ',')]
    pub chaos_namespaces: Vec<String>,
    /// Namespaces from which pods are scraped, separated by commas: a NetworkPolicy of a service lets them in to the port
    /// with its metrics. Empty: none.
    #[arg(
        long,
        env = "MONITORING_NAMESPACES",
        value_delimiter = ',',
        default_value = "monitoring"
    )]
    pub monitoring_namespaces: Vec<String>,
    /// Longest duration of a fault, for example 30m; a longer one is cut to it. At most 24h.
    #[arg(long, env = "CHAOS_MAX_DURATION", default_value = "10m", value_parser = fault_duration)]
    pub chaos_max_duration: Duration,
    /// Addresses outside of an experiment's own namespace that its probes may ask, separated by commas. Empty: none.
    #[arg(long, env = "CHAOS_PROBE_URLS", value_delimiter = ',', value_parser = probe_url)]
    pub chaos_probe_urls: Vec<Option<AllowedUrl>>,
    /// Image that the Jobs of a BackupPolicy run.
    #[arg(long, env = "BACKUP_IMAGE", default_value = "")]
    pub backup_image: String,
    /// Image of the guards of ResilientServices that name none of their own.
    #[arg(long, env = "GUARD_IMAGE", default_value = "")]
    pub guard_image: String,
    /// ClusterRole that the ServiceAccount of a BackupPolicy's Job is bound to; the chart ships it.
    #[arg(long, env = "BACKUP_RUNNER_CLUSTER_ROLE", default_value = "valerix-backup-runner")]
    pub backup_runner_cluster_role: String,
    /// ClusterRole that the ServiceAccount of a Restore's Job is bound to; the chart ships it.
    #[arg(long, env = "RESTORE_RUNNER_CLUSTER_ROLE", default_value = "valerix-restore-runner")]
    pub restore_runner_cluster_role: String,
    /// Where health, readiness and metrics are served.
    #[arg(long, env = "LISTEN_ADDRESS", default_value = DEFAULT_LISTEN_ADDRESS)]
    pub listen_address: SocketAddr,
    /// Whether whoever reads /metrics has to show a token of the cluster with the right to get that path: true or false.
    #[arg(long, env = "METRICS_AUTHENTICATION", default_value_t = false, action = clap::ArgAction::Set)]
    pub metrics_authentication: bool,
    /// Folder with tls.crt and tls.key, as a Secret of type kubernetes.io/tls is mounted: /metrics is then served by TLS
    /// alone, at its own address. Absent: beside health, and readable on its way.
    #[arg(long, env = "METRICS_TLS_DIRECTORY")]
    pub metrics_tls_directory: Option<PathBuf>,
    /// Where /metrics is served by TLS.
    #[arg(long, env = "METRICS_TLS_ADDRESS", default_value = "[::]:8443")]
    pub metrics_tls_address: SocketAddr,
    /// Where /debug/objects and /debug/log are served: not beyond the pod, as nobody is asked who they are.
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "127.0.0.1:8081")]
    pub admin_address: SocketAddr,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Settings of `valerix-operator drain`.
#[derive(Clone, Debug, clap::Args)]
pub struct DrainSettings {
    /// Those of the operator that is to be removed.
    #[command(flatten)]
    pub operator: Settings,
    /// The operator's own Deployment, which is scaled to zero at the end. Empty: it runs by hand and is left alone.
    #[arg(long, env = "OPERATOR_DEPLOYMENT", default_value = "")]
    pub operator_deployment: String,
    /// How long the runs may take to recover, and once more the operator to end. Unit: seconds.
    #[arg(long = "drain-timeout", env = "DRAIN_TIMEOUT_SECONDS", default_value_t = 120)]
    pub drain_timeout_seconds: u64,
}

/// Settings of `valerix-operator check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckSettings {
    /// Those of the operator that is looked at.
    #[command(flatten)]
    pub operator: Settings,
    /// The operator's own Deployment. Empty: it runs by hand, and needs no right on one.
    #[arg(long, env = "OPERATOR_DEPLOYMENT", default_value = "")]
    pub operator_deployment: String,
    /// How long each thing may take to be as it should, for example 90s.
    #[arg(long = "check-timeout", env = "CHECK_TIMEOUT", default_value = "60s", value_parser = waiting_time)]
    pub timeout: Duration,
}

/// Settings of `valerix-operator verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifySettings {
    /// File with one ChaosExperiment, as YAML or JSON; - is the standard input. It is applied, and run once.
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        required_unless_present = "experiment",
        conflicts_with = "experiment"
    )]
    pub filename: Option<PathBuf>,
    /// Name of an experiment that exists, in the place of a file: it runs once more as it is.
    #[arg(value_name = "NAME")]
    pub experiment: Option<String>,
    /// Namespace of the experiment. Else the one that the file names, or the one of the kubeconfig.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Else the current one, or the cluster that the process runs in.
    #[arg(long)]
    pub context: Option<String>,
    /// How long the run may take, for example 30m. A run that takes longer is stopped.
    #[arg(long, default_value = "15m", value_parser = waiting_time)]
    pub timeout: Duration,
    /// File that the report is written to as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// File that the report is written to as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Settings of `valerix-operator convert`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConvertSettings {
    /// File with the manifests, YAML documents; `-` reads standard input.
    #[arg(short = 'f', long = "filename", default_value = "-")]
    pub filename: PathBuf,
}

impl ConvertSettings {
    /// The file, unless standard input is to be read.
    pub fn input(&self) -> Option<&Path> {
        Some(self.filename.as_path()).filter(|path| *path != Path::new("-"))
    }
}

impl DrainSettings {
    /// The operator's own Deployment, where it has one.
    pub fn deployment(&self) -> Option<&str> {
        Some(self.operator_deployment.as_str()).filter(|name| !name.is_empty())
    }

    /// How long the runs may take to recover, and once more the operator to end.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds)
    }
}

impl Settings {
    /// Who this process is.
    pub fn identity(&self) -> Identity {
        Identity {
            pod: self.pod_name.clone(),
            uid: self
                .pod_uid
                .clone()
                .filter(|uid| !uid.is_empty())
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        }
    }

    /// Where objects are looked for.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::from_namespaces(&present(&self.watch_namespaces))
    }

    /// The namespaces in which experiments may evict pods.
    pub fn chaos_namespaces(&self) -> Vec<String> {
        present(&self.chaos_namespaces)
    }

    /// The namespaces from which pods are scraped.
    pub fn monitoring_namespaces(&self) -> Vec<String> {
        present(&self.monitoring_namespaces)
    }

    /// How the metrics are served by TLS, if they are.
    pub fn metrics_tls(&self) -> Option<Tls> {
        Some(Tls {
            address: self.metrics_tls_address,
            directory: self.metrics_tls_directory.clone()?,
        })
    }

    /// The addresses outside of an experiment's own namespace that its probes may ask.
    pub fn chaos_probe_urls(&self) -> Vec<AllowedUrl> {
        self.chaos_probe_urls.iter().flatten().cloned().collect()
    }
}

/// A duration as the API writes it.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: valerix_crds::Duration = text
        .parse()
        .map_err(|error: valerix_crds::InvalidDuration| error.to_string())?;
    parsed.value().map_err(|error| error.to_string())
}

/// An address that probes may ask; none for what an empty list in the environment comes to.
fn probe_url(text: &str) -> Result<Option<AllowedUrl>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    AllowedUrl::parse(text).map(Some)
}

/// How long somebody may wait.
fn waiting_time(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_secs(1) {
        return Err(format!("`{text}` is too short; write a duration of at least 1s"));
    }
    Ok(duration)
}

/// A duration that the pods' documents can hold.
fn fault_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_secs(1) || duration > LONGEST_FAULT {
        return Err(format!("`{text}` is out of bounds; write a duration from 1s to 24h"));
    }
    Ok(duration)
}

fn present(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        settings: DrainSettings,
    }

    #[test]
    fn draining_is_told_its_timeout_and_its_deployment_like_everything_else() {
        let settings = Arguments::parse_from(["drain", "--drain-timeout=7", "--operator-deployment=valerix"]).settings;
        assert_eq!(settings.timeout(), Duration::from_secs(7));
        assert_eq!(settings.deployment(), Some("valerix"));
        let settings = Arguments::parse_from(["drain"]).settings;
        assert_eq!(
            (settings.timeout(), settings.deployment()),
            (Duration::from_secs(120), None)
        );
        assert!(Arguments::try_parse_from(["drain", "--drain-timeout=soon"]).is_err());
    }

    #[test]
    fn who_reads_the_metrics_is_asked_for_when_that_is_said() {
        let asked = |arguments: &[&str]| {
            let parsed = Arguments::try_parse_from(["drain"].iter().chain(arguments));
            parsed
                .ok()
                .map(|arguments| arguments.settings.operator.metrics_authentication)
        };
        assert_eq!(asked(&[]), Some(false));
        assert_eq!(asked(&["--metrics-authentication=true"]), Some(true));
        assert_eq!(asked(&["--metrics-authentication=yes please"]), None);
    }

    #[test]
    fn addresses_that_probes_may_ask_are_read_or_named() {
        let urls = |text: &str| {
            let parsed = Arguments::try_parse_from(["drain", &format!("--chaos-probe-urls={text}")]);
            parsed.map(|arguments| arguments.settings.operator.chaos_probe_urls().len())
        };
        assert_eq!(urls("").ok(), Some(0));
        assert_eq!(urls("http://a.b.svc:9090, https://c.example").ok(), Some(2));
        assert!(urls("http://a.b.svc:9090,a.b.svc").is_err());
    }

    #[test]
    fn the_longest_fault_is_one_that_pods_can_read() {
        assert_eq!(fault_duration("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(fault_duration("24h"), Ok(LONGEST_FAULT));
        for text in ["", "soon", "0s", "24h1ms", "99999h"] {
            assert!(fault_duration(text).is_err(), "{text}");
        }
    }
}
