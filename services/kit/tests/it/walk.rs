//! The walk over an OpenAPI document finds what a service does otherwise than its document says.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;
use valerix_kit::service::Service;
use valerix_kit::testing::walker::{Headers, never_well, walk};
use valerix_kit::testing::{TestServer, service_args};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Thing {
    #[schemars(range(min = 1, max = 10))]
    count: i32,
}

async fn served(api: Api) -> TestServer {
    let service = Service::new(&service_args("things")).await.unwrap();
    TestServer::start(service.bind(api).await.unwrap()).await
}

async fn walked(api: Api) {
    let _ = walk(&served(api).await, 100, &[], |_| Headers::new()).await;
}

fn counted(thing: &Thing) -> Result<(), Problem> {
    if (1..=10).contains(&thing.count) {
        Ok(())
    } else {
        Err(Problem::invalid_field("/count", "must be 1 to 10"))
    }
}

fn operation() -> Operation {
    operation_such_as(json!({"count": 1}))
}

fn operation_such_as(example: Value) -> Operation {
    Operation::new("Counts", Access::Open)
        .body::<Thing>(example)
        .answer::<Thing>(200, "As many")
}

#[tokio::test]
async fn a_service_that_keeps_to_its_document_is_found_so() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(thing): Json<Thing>| counted(&thing).map(|()| Json(thing)),
        operation(),
    );
    let seen = walk(&served(api).await, 100, &[], |_| Headers::new()).await;
    assert_eq!(never_well(&seen), [""; 0]);
    assert!(seen["POST /things"].is_superset(&[200, 415, 422].into()), "{seen:?}");
}

#[tokio::test]
#[should_panic(expected = "the example of the document is refused")]
async fn an_example_that_the_service_refuses_is_found() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(thing): Json<Thing>| counted(&thing).map(|()| Json(thing)),
        operation_such_as(json!({"count": 11})),
    );
    walked(api).await;
}

#[tokio::test]
#[should_panic(expected = "a 5xx")]
async fn a_500_is_found() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(thing): Json<Thing>| match thing.count {
            10 => Err(Problem::internal(&"too many")),
            _ => counted(&thing).map(|()| Json(thing)),
        },
        operation(),
    );
    walked(api).await;
}

#[tokio::test]
#[should_panic(expected = "/count: \"7\" is no \"integer\"")]
async fn a_body_that_is_not_the_declared_one_is_found() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(thing): Json<Thing>| counted(&thing).map(|()| Json(json!({"count": "7"}))),
        operation(),
    );
    walked(api).await;
}

#[tokio::test]
#[should_panic(expected = "202 is not declared")]
async fn a_status_that_is_not_declared_is_found() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(thing): Json<Thing>| counted(&thing).map(|()| (StatusCode::ACCEPTED, Json(thing))),
        operation(),
    );
    walked(api).await;
}

#[tokio::test]
#[should_panic(expected = "and not one of [422]")]
async fn what_is_taken_beyond_the_declared_bounds_is_found() {
    let api = Api::new("things", "").post("/things", async |Json(thing): Json<Thing>| Json(thing), operation());
    walked(api).await;
}

#[tokio::test]
#[should_panic(expected = "is not named")]
async fn a_refusal_that_names_no_field_is_found() {
    let api = Api::new("things", "").post(
        "/things",
        async |Json(body): Json<Value>| match serde_json::from_value::<Thing>(body) {
            Ok(thing) if counted(&thing).is_ok() => Ok(Json(thing)),
            _ => Err(Problem::invalid_field("", "is bad")),
        },
        operation(),
    );
    walked(api).await;
}
