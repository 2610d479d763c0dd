//! Who has signed in, and clients that speak in that name. A person is a token of the API server, which the console keeps
//! in memory and passes on with everything that this person reads or commands: RBAC alone decides.

mod rights;
mod sessions;

use http::{HeaderValue, header};
use kube::Client;
use kube::client::Body;
use valerix_kit::problem::Problem;

pub use rights::{RightsError, Scopes};
pub use sessions::{COOKIE, Session, Sessions};

/// The clients of the API server.
#[derive(Clone)]
pub struct Clients {
    /// With the console's own rights, which are to read.
    pub own: Client,
    /// With nobody's rights, for [`Clients::of`].
    pub nobody: Client,
}

impl Clients {
    /// A client whose every request carries `token`.
    ///
    /// # Errors
    /// When the token can not be sent in a header.
    pub fn of(&self, token: &str) -> Result<Client, Problem> {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let mut bearer =
            bearer.map_err(|_| Problem::invalid_field("/token", "must be a token as kubectl prints it"))?;
        bearer.set_sensitive(true);
        let nobody = self.nobody.clone();
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            let nobody = nobody.clone();
            async move { nobody.send(request).await }
        });
        Ok(Client::new(service, "default"))
    }
}
