//! A database that comes back from an archive has forgotten what was handled since: its group gets it again.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use valerix_kit::events::EventBus;
use valerix_kit::events::refill::Refiller;
use valerix_kit::events::restored::Watch;
use valerix_kit::metrics::Metrics;

use crate::support::{World, new_event, subscription};

#[tokio::test]
async fn what_an_archive_does_not_know_as_handled_is_published_again() {
    let world = World::new().await;
    let group = subscription("one");
    let watches =
        ["one", "two"].map(|consumer| Watch::new(world.pool.clone(), world.bus.clone(), subscription(consumer)));
    let look = async || {
        let [one, two] = &watches;
        let (one, two) = tokio::join!(one.look(), two.look());
        (one.unwrap(), two.unwrap())
    };
    assert_eq!(look().await, (false, false), "nothing was handled");
    world.append(&[new_event("a", 1), new_event("b", 1)]).await;
    assert_eq!(world.relay().publish_batch().await.unwrap(), 2);
    let handled: Vec<Uuid> = sqlx::query_scalar("SELECT event_id FROM outbox ORDER BY aggregate")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    for event in &handled {
        let remembered = sqlx::query("INSERT INTO inbox (consumer_group, event_id) VALUES ($1, $2)")
            .bind(&group.group)
            .bind(event);
        remembered.execute(&world.pool).await.unwrap();
        assert_eq!(look().await, (false, false));
    }
    assert_eq!(world.bus.handled(&group.group).await.unwrap(), handled.last().copied());

    // The archive is from before the second of them, and the group has handled another one when somebody looks.
    sqlx::query("UPDATE inbox SET event_id = gen_random_uuid() WHERE event_id = $1")
        .bind(handled[1])
        .execute(&world.pool)
        .await
        .unwrap();
    let refiller = Refiller::new(
        world.pool.clone(),
        world.bus.clone(),
        "service",
        Metrics::new().unwrap(),
    );
    let refill = async || refiller.look(&mut None, &CancellationToken::new()).await.unwrap();
    assert_eq!(refill().await, 0, "nobody has noticed");
    let (one, two) = look().await;
    assert!(one != two, "one of them asks for it: {one} and {two}");
    assert_eq!(refill().await, 2, "the inbox passes over what it still knows");
    assert_eq!(look().await, (false, false), "once is enough");
    assert_eq!(refill().await, 0);
}
