//! The routes of a service and what they are, in one call each: a route can not be served without being described, and the
//! schemas come from the types that the handlers take and give.

use std::borrow::Cow;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::identity::Access;
use crate::identity::guard::guard;
use crate::openapi::{Document, problem};

/// Routes and their description, under construction.
pub struct Api<S = ()> {
    router: Router<S>,
    document: Document,
}

/// A UUID in a schema: `#[schemars(with = "valerix_kit::api::Id")]`.
pub struct Id;

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "uuid"})
    }
}

/// What stands in a path where it says `{name}`: an id is a UUID in every service.
fn place_in_path(name: &str) -> Value {
    match name {
        "id" => json!({"type": "string", "format": "uuid"}),
        _ => json!({"type": "string"}),
    }
}

/// How the schema of a type is found.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;
/// The media type of an answer and its schema.
type Content = (&'static str, SchemaOf);

/// What a route takes and gives. Problems of a kind that any route may give need not be listed.
///
/// ```
/// use valerix_kit::api::Operation;
/// use valerix_kit::identity::Access;
///
/// #[derive(schemars::JsonSchema)]
/// struct Greeting {
///     text: String,
/// }
///
/// let greet = Operation::new("Says hello", Access::Public)
///     .answer::<Greeting>(200, "A greeting")
///     .problem(404, "Nobody of that name");
/// ```
pub struct Operation {
    summary: &'static str,
    access: Access,
    parameters: Vec<Value>,
    query: Option<SchemaOf>,
    body: Option<(SchemaOf, Value)>,
    answers: Vec<(u16, &'static str, Option<Content>)>,
    empty: Vec<(u16, &'static str)>,
}

impl Operation {
    /// An operation for those whom `access` names, which takes what its path names and gives nothing yet.
    pub fn new(summary: &'static str, access: Access) -> Self {
        Self {
            summary,
            access,
            parameters: Vec::new(),
            query: None,
            body: None,
            answers: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// Needs the header `Idempotency-Key`.
    #[must_use]
    pub fn idempotency_key(mut self) -> Self {
        self.parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": true,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }));
        self
    }

    /// Heeds a header that may be left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": description,
            "schema": {"type": "string"},
        }));
        self
    }

    /// Takes the fields of `T` as query parameters.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// Takes a body of JSON such as `example`, which the service's walk through its document tries.
    #[must_use]
    pub fn body<T: JsonSchema>(mut self, example: Value) -> Self {
        self.body = Some((SchemaGenerator::subschema_for::<T>, example));
        self
    }

    /// Gives JSON.
    #[must_use]
    pub fn answer<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        let schema: SchemaOf = |generator| generator.subschema_for::<T>();
        self.answers
            .push((status, description, Some(("application/json", schema))));
        self
    }

    /// Gives server-sent events, the data of each of which is JSON.
    #[must_use]
    pub fn events<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        let schema: SchemaOf = |generator| generator.subschema_for::<T>();
        self.answers
            .push((status, description, Some(("text/event-stream", schema))));
        self
    }

    /// Gives an answer without a body.
    #[must_use]
    pub fn empty(mut self, status: u16, description: &'static str) -> Self {
        self.empty.push((status, description));
        self
    }

    /// Gives a problem that is worth a word.
    #[must_use]
    pub fn problem(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push((status, description, None));
        self
    }

    /// The operation object; the schemas that it names are added to `schemas`.
    fn describe(self, path: &str, schemas: &mut Map<String, Value>) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut taken = settings.clone().for_deserialize().into_generator();
        let mut given = settings.for_serialize().into_generator();
        let in_path = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": place_in_path(name)}))
            .chain(self.parameters)
            .collect();
        if let Some(query) = self.query {
            let query = query(&mut taken).to_value();
            let fields = query["properties"].as_object().into_iter().flatten();
            parameters.extend(fields.map(|(name, schema)| json!({"name": name, "in": "query", "schema": schema})));
        }
        let answers = self.answers.into_iter().map(|(status, description, schema)| {
            let answer = match schema {
                Some((media, schema)) => {
                    let schema = schema(&mut given);
                    json!({"description": description, "content": {media: {"schema": schema}}})
                }
                None => problem(description),
            };
            (status.to_string(), answer)
        });
        let empty = self.empty.into_iter();
        let empty = empty.map(|(status, description)| (status.to_string(), json!({"description": description})));
        let answers: Map<String, Value> = answers.chain(empty).collect();
        let mut operation = json!({
            "summary": self.summary,
            "security": self.access.security(),
            "x-valerix-access": self.access.describe(),
            "responses": answers,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some((schema, example)) = self.body {
            let content = json!({"schema": schema(&mut taken), "example": example});
            operation["requestBody"] = json!({"required": true, "content": {"application/json": content}});
        }
        schemas.extend(taken.take_definitions(true));
        schemas.extend(given.take_definitions(true));
        operation
    }
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// No routes yet.
    pub fn new(title: &str, description: &str) -> Self {
        Self {
            router: Router::new(),
            document: Document::new(title, description),
        }
    }

    /// Adds a route for GET.
    #[must_use]
    pub fn get<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route("get", path, get(handler), operation)
    }

    /// Adds a route for POST.
    #[must_use]
    pub fn post<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route("post", path, post(handler), operation)
    }

    /// Adds a route for PUT.
    #[must_use]
    pub fn put<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route("put", path, put(handler), operation)
    }

    /// Adds a route for PATCH.
    #[must_use]
    pub fn patch<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route("patch", path, patch(handler), operation)
    }

    /// Adds a route for DELETE.
    #[must_use]
    pub fn delete<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route("delete", path, delete(handler), operation)
    }

    /// Adds a route that this document does not describe and whose access nobody declares: for requests that are passed on to
    /// who describes and guards them.
    #[must_use]
    pub fn undescribed(self, path: &str, handler: MethodRouter<S>) -> Self {
        Self {
            router: self.router.route(path, handler),
            ..self
        }
    }

    fn route(mut self, method: &str, path: &str, handler: MethodRouter<S>, operation: Operation) -> Self {
        let mut schemas = Map::new();
        let access = operation.access;
        // Not around the answer to a method that the path has not.
        let handler = handler.route_layer(from_fn(move |request, next| guard(access, request, next)));
        let operation = operation.describe(path, &mut schemas);
        for (name, schema) in schemas {
            self.document = self.document.schema(&name, schema);
        }
        Self {
            router: self.router.route(path, handler),
            document: self.document.operation(method, path, operation),
        }
    }

    /// The routes with what their handlers work with.
    pub fn with_state(self, state: S) -> Api {
        Api {
            router: self.router.with_state(state),
            document: self.document,
        }
    }
}

impl Api {
    /// The same routes with something around them all, in front of the guard of their access.
    #[must_use]
    pub fn around(self, wrap: impl FnOnce(Router) -> Router) -> Self {
        Self {
            router: wrap(self.router),
            ..self
        }
    }

    /// Adds the operations of another.
    #[must_use]
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            router: self.router.merge(other.router),
            document: self.document.merge(other.document),
        }
    }

    /// The routes, and the document that describes them.
    pub fn into_parts(self) -> (Router, Document) {
        (self.router, self.document)
    }
}

/// Routes that are nobody's API, such as those of a test. They are open to everyone, whom `Caller` names to those who ask.
impl From<Router> for Api {
    fn from(router: Router) -> Self {
        Self {
            router,
            document: Document::new("", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Thing {
        name: String,
        /// How many.
        count: Option<u8>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Page {
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
    }

    async fn nothing() {}

    #[test]
    fn a_route_is_described_by_the_types_that_it_takes_and_gives() {
        let operation = Operation::new("Makes a thing", Access::Service(&["order"]))
            .idempotency_key()
            .header("X-Why", "What it is for")
            .query::<Page>()
            .body::<Thing>(json!({"name": "a", "count": 1}))
            .answer::<Thing>(201, "Made")
            .problem(409, "It is there");
        let (_, document) = Api::<()>::new("things", "")
            .post("/things/{name}", nothing, operation)
            .into_parts();
        let document = document.to_json();
        let post = &document["paths"]["/things/{name}"]["post"];
        let named = |place: &str| {
            post["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| one["in"] == place)
                .count()
        };
        assert_eq!([named("path"), named("header"), named("query")], [1, 2, 1], "{post}");
        assert_eq!(post["x-valerix-access"], json!({"services": ["order"]}));
        let reference = "#/components/schemas/Thing";
        let taken = &post["requestBody"]["content"]["application/json"];
        assert_eq!(taken["schema"]["$ref"], reference);
        assert_eq!(taken["example"], json!({"name": "a", "count": 1}));
        assert_eq!(
            post["responses"]["201"]["content"]["application/json"]["schema"]["$ref"],
            reference
        );
        assert!(post["responses"]["409"]["content"]["application/problem+json"].is_object());
        let thing = &document["components"]["schemas"]["Thing"];
        assert_eq!(
            thing["required"],
            json!(["name", "count"]),
            "an answer always has what may be null"
        );
        assert_eq!(thing["properties"]["count"]["description"], "How many.");
    }
}
