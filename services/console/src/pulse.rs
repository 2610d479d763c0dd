//! Whether the API server answers at all. A watch of a quiet cluster is silent, and so is one of a server that hangs: until
//! it is opened anew nobody knows which. So a small question is asked every second while somebody looks.

use std::time::Duration;

use kube::Client;

use crate::board::Board;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer may take. Together with the pause and a heartbeat it is a second less than the five within which the
/// page tells.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for as long as this runs.
pub async fn watch(board: Board, client: Client) {
    loop {
        let answers = board.readers() == 0 || answers(&client).await;
        board.hear(answers);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answers(client: &Client) -> bool {
    match tokio::time::timeout(PATIENCE, client.apiserver_version()).await {
        // A refusal is an answer too.
        Ok(Ok(_) | Err(kube::Error::Api(_))) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the API server does not answer");
            false
        }
        Err(_) => false,
    }
}
