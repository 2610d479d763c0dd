//! Every leaf of the schema: a service whose leaf changes becomes what a fresh one of that specification is, and changes
//! back to what it was. Values come from the schema, so that a new field is tried without a change here.

use super::*;
use valerix_draw::{Change, Draws};

/// Leaves that cannot be tried so, and why.
const LEFT_OUT: [(&str, &str); 1] = [(
    "spec.paused",
    "a service that is made paused has no children, one that is paused keeps them; see a_paused_service_is_left_alone_and_still_judged",
)];

/// What an operator makes of a specification where nothing was before.
async fn fresh(spec: &Value) -> Result<State, String> {
    let api = FakeApi::default();
    with_monitors(&api);
    write(&api, spec);
    let _operator = Operator::start(&api);
    settled(&api).await
}

/// What stands at last, all of it.
async fn settled(api: &FakeApi) -> Result<State, String> {
    settle(api, SHORT_REST).await;
    let service = api.get(ORDER).unwrap();
    match says_all_stands(&service) {
        true => Ok(state(api)),
        false => Err(format!("not all stands: {}", service["status"])),
    }
}

/// Where one state has anything that the other has not.
fn apart(found: &State, wanted: &State) -> Result<(), String> {
    match difference(found, wanted).or_else(|| lack(wanted, found).map(|text| format!("left over or lost: {text}"))) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

/// Lets a service change and change back; says whether that was another one meanwhile.
async fn there_and_back(change: &Change) -> Result<bool, String> {
    let before = &change.before["spec"];
    let api = FakeApi::default();
    with_monitors(&api);
    write(&api, before);
    let _operator = Operator::start(&api);
    let reference = settled(&api).await?;
    let mut is_other = false;
    for other in [Some(&change.after), change.without.as_ref()].into_iter().flatten() {
        let other = &other["spec"];
        let said = |text: String| format!("{text}\nas {other}");
        let wanted = fresh(other).await.map_err(said)?;
        is_other |= wanted != reference;
        let uids = uids(&api);
        write(&api, other);
        let found = settled(&api).await.map_err(said)?;
        apart(&found, &wanted).map_err(said)?;
        write(&api, before);
        let back = settled(&api).await.map_err(said)?;
        apart(&back, &reference).map_err(|text| format!("on the way back {text}\nfrom {other}"))?;
        // What both of them have was changed, and not made anew.
        for (path, uid) in &uids {
            let is_common = wanted.contains_key(path);
            if is_common && api.get(path).is_none_or(|child| child["metadata"]["uid"] != *uid) {
                return Err(said(format!("{path} was deleted and made again")));
            }
        }
    }
    Ok(is_other)
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_changes_makes_what_a_fresh_service_has_and_changes_back() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 20), number("VALERIX_SEED", 2_026));
    let mut draws = Draws::seeded(seed).unwrap();
    let mut paths: Vec<String> = draws.leaves().into_iter().map(|(path, _)| path).collect();
    for (left_out, _) in LEFT_OUT {
        let known = paths.len();
        paths.retain(|path| path != left_out);
        assert_eq!(paths.len() + 1, known, "there is no leaf {left_out} any more");
    }
    paths.shuffle(&mut StdRng::seed_from_u64(seed));
    let rounds = usize::try_from(rounds).unwrap();
    let mut others = 0;
    let mut found = Vec::new();
    // Each of them can be tried; so many are.
    for (round, leaf) in paths.iter().cycle().take(rounds.max(paths.len())).enumerate() {
        let Some(change) = draws.change("order", leaf, in_the_way) else {
            found.push(format!(
                "{leaf}: no two values were found, and LEFT_OUT does not say why"
            ));
            continue;
        };
        if round >= rounds {
            continue;
        }
        match there_and_back(&change).await {
            Ok(is_other) => others += usize::from(is_other),
            Err(text) => found.push(format!(
                "seed {seed}, round {round}, {leaf}: {text}\nof {}",
                change.before["spec"]
            )),
        }
    }
    assert!(found.is_empty(), "{} of {rounds}:\n{}", found.len(), found.join("\n\n"));
    assert!(2 * others >= rounds, "only {others} of {rounds} made another service");
}
