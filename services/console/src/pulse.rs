//! Whether the API server answers, and whether the operator leads. A watch that hears nothing looks like a quiet cluster, and
//! until it is opened anew nobody knows which. So a small question is asked every second while somebody looks: for the
//! operator's Lease, or where that is not known, for the version.

use std::time::{Duration, Instant};

use chrono::Utc;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use crate::board::Board;
use crate::operator::{Leader, LeaseName};

/// Pause between two questions while somebody looks, and while nobody does: whoever comes then is told at once, and a Lease
/// that is renewed every five seconds is seen to change.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// How long an answer may take. Together with the shorter pause and a heartbeat it is a second less than
/// the five within which the page tells.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was answered.
enum Answer {
    /// The Lease, or that there is none.
    Lease(Option<Box<Lease>>),
    /// Something else: the API server is there, and nothing is known of the operator.
    Something,
}

/// Asks for as long as this runs.
pub async fn watch(board: Board, client: Client, lease: Option<LeaseName>) {
    let mut leader = Leader::default();
    loop {
        let (answers, silence) = match tokio::time::timeout(PATIENCE, ask(&client, lease.as_ref())).await {
            Ok(Ok(Answer::Lease(lease))) => (true, leader.see(lease.as_deref(), (Instant::now(), Utc::now()))),
            // A refusal is an answer too.
            Ok(Ok(Answer::Something) | Err(kube::Error::Api(_))) => (true, None),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the API server does not answer");
                (false, board.silence())
            }
            Err(_) => (false, board.silence()),
        };
        board.hear(answers, silence);
        let (looked_at, alone) = PAUSES;
        let pause = if board.readers() > 0 { looked_at } else { alone };
        // A Lease that stands still is told of when it has done so for long enough, not up to a pause later.
        let patience = leader.patience(Instant::now()).unwrap_or(pause);
        tokio::time::sleep(pause.min(patience)).await;
    }
}

async fn ask(client: &Client, lease: Option<&LeaseName>) -> Result<Answer, kube::Error> {
    let Some(LeaseName { namespace, name }) = lease else {
        return client.apiserver_version().await.map(|_| Answer::Something);
    };
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    Ok(Answer::Lease(leases.get_opt(name).await?.map(Box::new)))
}
