use super::*;

#[test]
fn a_value_is_held_against_every_word_of_its_schema() {
    let named = json!({"Price": {"type": "integer", "format": "int32", "minimum": 1}});
    let schemas = Schemas(&named);
    for (schema, good, bad) in [
        (json!({"$ref": "#/components/schemas/Price"}), json!(1), json!(0)),
        (
            json!({"$ref": "#/components/schemas/Price"}),
            json!(7),
            json!(3_000_000_000_u64),
        ),
        (
            json!({"type": ["string", "null"], "maxLength": 2}),
            json!("ß1"),
            json!("abc"),
        ),
        (
            json!({"type": "string", "pattern": "^[A-Z]{3}$"}),
            json!("EUR"),
            json!("EURO"),
        ),
        (
            json!({"type": "string", "pattern": "^[0-9]{1,20}-[0-9]{1,20}$"}),
            json!("1-0"),
            json!("1-"),
        ),
        (
            json!({"type": "string", "format": "uuid"}),
            json!(Uuid::nil()),
            json!("7"),
        ),
        (
            json!({"anyOf": [{"const": "A"}, {"type": "null"}]}),
            json!(null),
            json!("B"),
        ),
        (
            json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1}),
            json!([true]),
            json!([]),
        ),
        (
            json!({"type": "array", "items": {"type": "boolean"}}),
            json!([]),
            json!([1]),
        ),
        (
            json!({"type": "object", "properties": {"a": true}, "required": ["a"], "additionalProperties": false}),
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
        ),
        (
            json!({"type": "object", "required": ["a"]}),
            json!({"a": null}),
            json!({}),
        ),
    ] {
        assert_eq!(schemas.violations(&schema, &good), [""; 0], "{schema}");
        assert_ne!(schemas.violations(&schema, &bad), [""; 0], "{schema} takes {bad}");
    }
}

#[test]
fn what_is_drawn_is_good() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["id", "n"], "properties": {
        "id": {"type": "string", "format": "uuid"},
        "n": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "share": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "key": {"type": "string", "pattern": "^[!-.0-~]{1,128}$"},
        "name": {"type": "string", "minLength": 8, "maxLength": 12},
        "at": {"type": "string", "format": "date-time"},
        "list": {"type": "array", "minItems": 1, "items": {"enum": ["A", "B"]}},
    }});
    let (mut chance, _) = Chance::seeded(5);
    let none = json!({});
    for _ in 0..500 {
        let value = Schemas(&none).draw(&schema, "", &mut chance, &|_, _| None);
        assert_eq!(Schemas(&none).violations(&schema, &value), [""; 0], "{value}");
    }
}

#[test]
#[should_panic(expected = "multipleOf is not understood")]
fn a_word_that_nobody_holds_is_not_passed_over() {
    let _ = Schemas(&json!({})).violations(&json!({"multipleOf": 2}), &json!(3));
}
