//! Paths of the API server, taken apart.

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePath {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// Namespace; none for a request over all of them.
    pub namespace: Option<String>,
    /// Plural name of the kind.
    pub plural: String,
    /// Name; none for the collection.
    pub name: Option<String>,
    /// `status`, `eviction` and the like.
    pub subresource: Option<String>,
}

impl ResourcePath {
    /// The parts of a path; none if it is not one of the API's.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let api_version = match parts.next()? {
            "api" => parts.next()?.to_owned(),
            "apis" => format!("{}/{}", parts.next()?, parts.next()?),
            _ => return None,
        };
        let mut first = parts.next()?;
        let mut namespace = None;
        if first == "namespaces" {
            let name = parts.next().map(str::to_owned);
            let Some(plural) = parts.next() else {
                return Some(Self {
                    api_version,
                    namespace,
                    plural: first.to_owned(),
                    name,
                    subresource: None,
                });
            };
            (namespace, first) = (name, plural);
        }
        Some(Self {
            api_version,
            namespace,
            plural: first.to_owned(),
            name: parts.next().map(str::to_owned),
            subresource: parts.next().map(str::to_owned),
        })
    }
}

/// A parameter of a query, decoded as far as selectors need it.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| {
            value
                .replace("%3D", "=")
                .replace("%2C", ",")
                .replace("%2F", "/")
                .replace("%21", "!")
                .replace('+', " ")
        })
    })
}

/// The name that a field selector asks for, the only field that this server selects by.
pub fn named_by(query: &str) -> Option<String> {
    let selector = parameter(query, "fieldSelector")?;
    selector.strip_prefix("metadata.name=").map(str::to_owned)
}

/// Whether this server serves a group and version without a definition: Kubernetes' own and ours.
pub fn is_taken_as_there(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io") || group == "resilience.valerix.io"
}

/// Whether labels satisfy a selector of equalities and existences.
pub fn selects(selector: &str, object: &serde_json::Value) -> bool {
    let label = |key: &str| {
        object
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(key)?.as_str())
    };
    selector
        .split(',')
        .filter(|part| !part.is_empty())
        .all(|part| match part.split_once('=') {
            Some((key, value)) => label(key) == Some(value),
            None => label(part).is_some(),
        })
}
