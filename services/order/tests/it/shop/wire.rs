//! What stands between a process and one thing that it calls: it counts the calls, and lets one of them go wrong.
//!
//! A call is what arrives from the process in one read: a statement, a command, a request. Calls of the background (a lease,
//! a look at the outbox) are counted with those of the order that is under way, so a number names a moment, not a statement.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The number of a process; another one after each start.
pub type Pid = Arc<AtomicU32>;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process is killed.
    Kill,
    /// The connection is cut.
    Cut,
    /// Nothing passes on this connection for as long.
    Delay(Duration),
    /// The process stands still for as long.
    Pause(Duration),
    /// Nothing passes on this connection ever again; its ends hear of it after as long.
    Hole(Duration),
}

/// When, of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Nobody has heard the call.
    BeforeSend,
    /// The call was heard, and its answer is not.
    BeforeAnswer,
    /// The answer was heard, and nothing was made of it yet.
    AfterAnswer,
}

impl Moment {
    pub const ALL: [Self; 3] = [Self::BeforeSend, Self::BeforeAnswer, Self::AfterAnswer];
}

/// A call that will go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Its number, from 1, since the trap was set.
    pub call: usize,
    pub moment: Moment,
    pub fault: Fault,
}

/// One such wire; all connections of the process to the same address are on it.
pub struct Wire {
    /// The variable that names the address, for messages.
    pub name: &'static str,
    port: u16,
    target: (String, u16),
    pid: Pid,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: usize,
    trap: Option<Trap>,
    /// How often a trap was set or taken away. One that waits for its answer springs in its own round alone: later it would
    /// hit somebody who does not look for it.
    round: usize,
    sprung: usize,
}

/// A trap whose call has come, with its round.
#[derive(Clone, Copy)]
struct Caught(Trap, usize);

impl Wire {
    /// Listens on a port of its own and passes everything on to `target`.
    pub async fn start(name: &'static str, target: (String, u16), pid: Pid) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Arc::new(Self {
            name,
            port: listener.local_addr().unwrap().port(),
            target,
            pid,
            state: Mutex::default(),
        });
        let accepting = Arc::downgrade(&wire);
        tokio::spawn(async move {
            while let Ok((process, _)) = listener.accept().await
                && let Some(wire) = accepting.upgrade()
            {
                // An end that is gone ends the other.
                tokio::spawn(async move { wire.carry(process).await });
            }
        });
        wire
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Calls since the last trap was set, or since the start.
    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// Counts from now on, and lets one call go wrong. A trap of before springs no longer.
    pub fn set(&self, trap: Option<Trap>) {
        let mut state = self.state.lock().unwrap();
        state.calls = 0;
        state.round += 1;
        state.trap = trap;
    }

    /// Traps that were sprung since the start.
    pub fn sprung(&self) -> usize {
        self.state.lock().unwrap().sprung
    }

    fn count(&self) -> Option<Caught> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let (call, round) = (state.calls, state.round);
        let trap = state.trap.take_if(|trap| trap.call <= call);
        trap.map(|trap| Caught(trap, round))
    }

    async fn carry(&self, mut process: TcpStream) -> io::Result<()> {
        let mut target = TcpStream::connect((self.target.0.as_str(), self.target.1)).await?;
        process.set_nodelay(true)?;
        target.set_nodelay(true)?;
        let (mut call, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
        let mut sent: Option<Caught> = None;
        loop {
            tokio::select! {
                read = process.read(&mut call) => {
                    let length = read?;
                    if length == 0 { return Ok(()) }
                    let trap = self.count();
                    if let Some(caught) = trap && caught.0.moment == Moment::BeforeSend {
                        self.spring(caught).await?;
                    } else {
                        sent = sent.or(trap);
                    }
                    target.write_all(&call[..length]).await?;
                }
                read = target.read(&mut answer) => {
                    let length = read?;
                    if length == 0 { return Ok(()) }
                    let trap = sent.take();
                    if let Some(caught) = trap && caught.0.moment == Moment::BeforeAnswer {
                        self.spring(caught).await?;
                    }
                    process.write_all(&answer[..length]).await?;
                    if let Some(caught) = trap && caught.0.moment == Moment::AfterAnswer {
                        self.spring(caught).await?;
                    }
                }
            }
        }
    }

    /// # Errors
    /// When the connection ends with it.
    async fn spring(&self, Caught(trap, round): Caught) -> io::Result<()> {
        {
            let mut state = self.state.lock().unwrap();
            if state.round != round {
                return Ok(());
            }
            state.sprung += 1;
            // Under the lock: whoever sees the count may start the process again.
            let pid = self.pid.load(Ordering::SeqCst);
            match trap.fault {
                Fault::Kill => signal(pid, "-KILL"),
                Fault::Pause(pause) => {
                    signal(pid, "-STOP");
                    tokio::spawn(async move {
                        tokio::time::sleep(pause).await;
                        signal(pid, "-CONT");
                    });
                }
                Fault::Cut | Fault::Delay(_) | Fault::Hole(_) => {}
            }
        }
        match trap.fault {
            Fault::Kill => Err(io::ErrorKind::ConnectionAborted.into()),
            Fault::Cut => Err(io::ErrorKind::ConnectionReset.into()),
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Fault::Pause(_) => Ok(()),
            Fault::Hole(unheard) => {
                tokio::time::sleep(unheard).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

/// A process that has been killed by something else meanwhile is past caring.
pub fn signal(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
}
