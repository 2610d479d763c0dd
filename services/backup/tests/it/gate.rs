//! Clients whose psql waits at a chosen statement, before it is sent or after it was answered: where a pod can be killed or
//! paused between any two of its statements.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

const INSTALLED: &str = "/usr/lib/postgresql";
/// How long it is waited for a pod to come to a place, or to its end.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Gate {
    folder: tempfile::TempDir,
}

impl Gate {
    /// Clients like those of this machine. Everything passes until [`Gate::stop_at`].
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Self { folder };
        for major in fs::read_dir(INSTALLED).unwrap() {
            let major = major.unwrap();
            let bin = gate.clients().join(major.file_name()).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in fs::read_dir(major.path().join("bin")).unwrap() {
                let program = program.unwrap();
                let own = bin.join(program.file_name());
                if program.file_name() == "psql" {
                    fs::write(&own, gate.script(&program.path())).unwrap();
                    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
                } else {
                    symlink(program.path(), own).unwrap();
                }
            }
        }
        // Whoever runs the pods, as a trial's user, counts here.
        fs::set_permissions(gate.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        gate
    }

    fn script(&self, psql: &Path) -> String {
        let (gate, psql) = (self.folder.path().display(), psql.display());
        format!(
            "#!/bin/sh\n\
             cd '{gate}'\n\
             test -e stop || exec '{psql}' \"$@\"\n\
             echo >> passed\n\
             place=$(($(wc -l < passed) * 2))\n\
             hold() {{ echo $$ > holds.new; mv holds.new holds; until test -e released; do test -e stop || exit 1; sleep 0.02; done; }}\n\
             test $((place - 1)) = \"$(cat stop)\" && hold\n\
             '{psql}' \"$@\"\n\
             code=$?\n\
             test $place = \"$(cat stop)\" && hold\n\
             exit $code\n"
        )
    }

    /// The folder with one folder per major version.
    pub fn clients(&self) -> PathBuf {
        self.folder.path().join("clients")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Holds what comes to this place next, counted from 1 and from now: each statement has two.
    pub fn stop_at(&self, place: usize) {
        for name in ["holds", "released", "passed"] {
            let _ = fs::remove_file(self.path(name));
        }
        fs::write(self.path("stop.new"), place.to_string()).unwrap();
        fs::rename(self.path("stop.new"), self.path("stop")).unwrap();
    }

    /// From now on whoever fills a database by pg_restore does so for ever.
    pub fn fill_for_ever(&self) {
        for major in fs::read_dir(self.clients()).unwrap() {
            let program = major.unwrap().path().join("bin/pg_restore");
            let installed = fs::read_link(&program).unwrap();
            fs::remove_file(&program).unwrap();
            let script = format!(
                "#!/bin/sh\n\
                 case \" $* \" in *' --exit-on-error '*) ;; *) exec '{}' \"$@\" ;; esac\n\
                 echo > '{}'\n\
                 while :; do sleep 0.02; done\n",
                installed.display(),
                self.path("fills").display()
            );
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Resolves when a database is being filled.
    pub async fn filling(&self) {
        self.appears("fills").await;
    }

    async fn appears(&self, name: &str) {
        let appears = async {
            while !self.path(name).exists() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, appears)
            .await
            .expect("a pod comes to its place");
    }

    /// How many places were passed since.
    pub fn passed(&self) -> usize {
        fs::read_to_string(self.path("passed")).map_or(0, |lines| lines.lines().count() * 2)
    }

    /// Resolves when something is held.
    pub async fn bitten(&self) {
        self.appears("holds").await;
    }

    /// Lets go what is held, and waits until its psql has ended.
    pub async fn release(&self) {
        fs::write(self.path("released"), "").unwrap();
        self.gone().await;
    }

    /// What is held never takes: it ends with its pod, if it has not already.
    pub async fn kill(&self) {
        let _ = std::process::Command::new("kill")
            .args(["-KILL", &self.holder()])
            .status();
        self.gone().await;
    }

    fn holder(&self) -> String {
        fs::read_to_string(self.path("holds")).unwrap().trim().to_owned()
    }

    async fn gone(&self) {
        let process = PathBuf::from(format!("/proc/{}/stat", self.holder()));
        let gone = async {
            // One that nobody has waited for yet has ended all the same.
            while fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("a psql ends");
    }
}
