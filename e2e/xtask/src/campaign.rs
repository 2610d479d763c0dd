//! Campaigns: what a test run tries a slice of, tried as often as somebody asks. Those of the operator need an API server in
//! memory and one of them a cluster, those of the shop a PostgreSQL and a Redis, which are started for them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::check::{self, Scope};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::services::Services;
use crate::steps::{Log, Steps};
use crate::tools::debian;
use crate::workspace::{self, cargo};

const COMMAND: &str = "campaign";

/// Which campaign, how long, and by which chance.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// `shop-calls`, `chaos-scale` or `scale` and their kin (see `make help`), else one of the operator's in memory.
    #[arg(long)]
    pub name: String,
    /// How many faults or requests are tried; without it many more than a test run tries.
    #[arg(long)]
    pub rounds: Option<u64>,
    /// The same seed chooses the same again.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A campaign of the shop: the tests of these packages whose path begins so.
struct OfTheShop {
    name: &'static str,
    packages: &'static [&'static str],
    tests: &'static str,
    /// About an hour's.
    rounds: u64,
}

const ORDER: &[&str] = &["valerix-order"];
/// The release before this one works beside it.
const PREVIOUS: &str = "shop-previous";
const OF_THE_SHOP: [OfTheShop; 6] = [
    OfTheShop {
        name: "shop-calls",
        packages: ORDER,
        tests: "campaigns::calls",
        rounds: 500,
    },
    OfTheShop {
        name: "shop-storm",
        packages: ORDER,
        tests: "campaigns::storm",
        rounds: 1_000,
    },
    OfTheShop {
        name: "shop-keys",
        packages: ORDER,
        tests: "campaigns::keys",
        rounds: 500,
    },
    OfTheShop {
        name: "shop-servers",
        packages: ORDER,
        tests: "campaigns::servers",
        rounds: 500,
    },
    OfTheShop {
        name: PREVIOUS,
        packages: ORDER,
        tests: "campaigns::previous",
        rounds: 300,
    },
    OfTheShop {
        name: "shop-walk",
        packages: &[
            "valerix-auth",
            "valerix-order",
            "valerix-inventory",
            "valerix-payment",
            "valerix-notification",
            "valerix-analytics",
        ],
        tests: "every_answer_is_one_that_the_document_declares",
        rounds: 10_000,
    },
];
/// What a campaign of the operator tries.
const ROUNDS: u64 = 1_000;

/// Those of experiments: name, the module of the operator's tests, and rounds, of a hundred pods each for the last.
const OF_EXPERIMENTS: [(&str, &str, u64); 3] = [
    ("chaos-model", "chaos_experiment::step::simulation::campaign", ROUNDS),
    ("chaos-wire", "chaos_experiment::wire_tests::campaign", 60),
    (SCALE, "chaos_experiment::wire_tests::scale", 60),
];
const SCALE: &str = "chaos-scale";

/// The one on a real API server: so many services of three pods each.
const ON_A_CLUSTER: (&str, u64) = ("scale", 1_000);

/// Runs it to its end, or until Ctrl-C.
///
/// # Errors
/// When there is none of that name, or it finds something.
pub fn run(paths: &Paths, choice: &Choice) -> Result<()> {
    let (on_a_cluster, services) = ON_A_CLUSTER;
    if choice.name == on_a_cluster {
        let services = choice.rounds.unwrap_or(services);
        return check::run(paths, Scope::Scale { services });
    }
    let Some(shop) = OF_THE_SHOP.iter().find(|shop| shop.name == choice.name) else {
        let (tests, rounds) = of_the_operator(&choice.name)?;
        // What is measured is measured alone.
        let alone = (choice.name == SCALE).then_some("--test-threads=1");
        return with(paths, choice, rounds)
            .args(["test", "--locked", "--package", "valerix-operator", "--lib", &tests])
            .args(["--", "--nocapture"])
            .args(alone)
            .on_the_terminal()
            .replace();
    };
    let mut steps = Steps::begin(paths.logs(COMMAND))?;
    steps.run("Installing PostgreSQL and Redis", |log| {
        debian::install(debian::SERVICES, log)
    })?;
    let previous = if shop.name == PREVIOUS {
        Some(steps.run("Building the release before", |log| build_previous(paths, log))?)
    } else {
        None
    };
    steps.run(&format!("The campaign {}, seed {}", shop.name, choice.seed), |log| {
        let _claim = workspace::claim(paths, log)?;
        let services = Services::start(log)?;
        let packages = shop.packages.iter().flat_map(|package| ["--package", package]);
        let mut tests = with(paths, choice, shop.rounds);
        if let Some(previous) = &previous {
            tests = tests.env("VALERIX_PREVIOUS", previous);
        }
        let tests = tests
            .env("TEST_DATABASE_URL", &services.database_url)
            .env("TEST_REDIS_URL", &services.redis_url)
            .args(["test", "--locked", "--test", "it"])
            .args(packages)
            .args([shop.tests, "--", "--nocapture"]);
        // What was tried is told on standard error.
        tests
            .run_seeing(log, |line| {
                if line.starts_with("seed ") {
                    log.say(line);
                }
            })
            .context("the campaign found something")
            .remedy(format!(
                "run it again with the seed that its log names: make campaign NAME={} SEED=...",
                shop.name
            ))
    })
}

/// The tests of order as the release before has them, which are its services: of the newest tag, else of the sources before the
/// last migration of one of them.
fn build_previous(paths: &Paths, log: &Log) -> Result<PathBuf> {
    let git = |arguments: &[&str]| Program::new("git").args(arguments).in_folder(&paths.checkout);
    let tag = git(&["describe", "--tags", "--abbrev=0", "HEAD~1"]).read(log);
    let revision = tag.or_else(|_| {
        let folders = ["processor", "inventory", "payment", "order"].map(|name| format!("services/{name}/migrations"));
        git(&["log", "-1", "--format=%H~1", "--"]).args(&folders).read(log)
    });
    let revision = revision.context("failed to find the release before")?.trim().to_owned();
    let room = paths.cache.join("previous");
    let checkout = room.join("checkout");
    if checkout.exists() {
        fs::remove_dir_all(&checkout).with_context(|| format!("failed to remove {}", checkout.display()))?;
    }
    log.say(&format!("the release before is {revision}"));
    // By force: git may still know the one of a run that was cut short.
    git(&["worktree", "add", "--force", "--detach"])
        .arg(&checkout)
        .arg(&revision)
        .run(log)
        .remedy("its commits have to be here: git fetch --unshallow --tags")?;
    let before = Paths {
        checkout,
        ..paths.clone()
    };
    let _claim = workspace::claim(&before, log)?;
    let messages = cargo(&before)
        .args([
            "test",
            "--no-run",
            "--locked",
            "--message-format=json-render-diagnostics",
        ])
        .args(["--package", "valerix-order", "--test", "it"])
        .read(log)?;
    let artifacts = workspace::parse(&messages);
    let tests = artifacts.tests_of(&before.checkout.join("services/order"));
    let built = &tests.first().context("cargo made no test program")?.path;
    // The next build is of this checkout, in the same folder.
    let kept = room.join("it");
    fs::copy(built, &kept).with_context(|| format!("failed to copy {}", built.display()))?;
    git(&["worktree", "remove", "--force"]).arg(&before.checkout).run(log)?;
    Ok(kept)
}

/// The tests of a campaign of the operator, and how many rounds it has by itself.
fn of_the_operator(name: &str) -> Result<(String, u64)> {
    if let Some((_, module, rounds)) = OF_EXPERIMENTS.iter().find(|(known, ..)| *known == name) {
        return Ok((format!("{module}::"), *rounds));
    }
    let unknown = name.is_empty() || name.starts_with("shop-") || name.starts_with("chaos-");
    anyhow::ensure!(!unknown, "there is no campaign {name:?}: see `make help`");
    Ok((format!("tests::campaigns::{name}"), ROUNDS))
}

/// cargo, with the choice for the tests.
fn with(paths: &Paths, choice: &Choice, rounds: u64) -> Program {
    cargo(paths)
        .env("VALERIX_ROUNDS", choice.rounds.unwrap_or(rounds).to_string())
        .env("VALERIX_SEED", choice.seed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A filter that no test has would end well, having tried nothing.
    #[test]
    fn every_campaign_of_the_shop_has_tests() {
        let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services");
        for campaign in OF_THE_SHOP {
            for package in campaign.packages {
                let folder = services.join(package.trim_start_matches("valerix-")).join("tests/it");
                let found = match campaign.tests.split_once("campaigns::") {
                    Some((_, file)) => folder.join("campaigns").join(format!("{file}.rs")).is_file(),
                    None => std::fs::read_dir(&folder).unwrap().any(|file| {
                        let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
                        text.contains(campaign.tests)
                    }),
                };
                assert!(found, "{package} has no {}", campaign.tests);
            }
        }
    }

    #[test]
    fn the_campaign_on_a_cluster_has_a_test() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/it");
        let text = std::fs::read_to_string(tests.join(ON_A_CLUSTER.0).with_extension("rs")).unwrap();
        assert!(text.contains("#[tokio::test") && text.contains("VALERIX_ROUNDS"));
    }

    #[test]
    fn every_campaign_of_experiments_has_tests() {
        let operator = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../operator/src");
        for (name, module, rounds) in OF_EXPERIMENTS {
            let file = operator.join(format!("{}.rs", module.replace("::", "/")));
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(
                text.contains("test") && text.contains("rounds("),
                "{name}: {}",
                file.display()
            );
            assert_eq!(of_the_operator(name).unwrap(), (format!("{module}::"), rounds));
        }
        assert_eq!(
            of_the_operator("edits").unwrap(),
            ("tests::campaigns::edits".to_owned(), ROUNDS)
        );
        for unknown in ["", "shop-nothing", "chaos-nothing"] {
            assert!(of_the_operator(unknown).is_err(), "{unknown:?}");
        }
    }
}
