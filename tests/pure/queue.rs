//! Which client is next: lanes, order within a lane, one worker for each client, and what comes first
//! after a start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clientgrant::clock;
use clientgrant::controller::queue::Queue;
use clientgrant::world::{Due, Lane};

use crate::support::key_of;

fn due(client: &str, grant: &str, lane: Lane) -> Due {
    let grants = if grant.is_empty() { BTreeSet::new() } else { [Arc::from(grant)].into() };
    Due::look(key_of(client), grants, lane)
}

/// The next one, if there is one now.
async fn next(queue: &Queue) -> Option<Due> {
    tokio::time::timeout(Duration::from_millis(30), queue.pop()).await.ok()
}

async fn order(queue: &Queue) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(due) = next(queue).await {
        all.push(due.key.client.to_string());
        queue.done(&due.key);
    }
    all
}

#[tokio::test]
async fn what_ends_goes_first_and_then_who_came_first() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    for (client, lane) in [
        ("drift", Lane::Drift),
        ("apply-1", Lane::Apply),
        ("narrow", Lane::Narrow),
        ("apply-2", Lane::Apply),
        ("end", Lane::End),
    ] {
        queue.push(due(client, "", lane));
    }
    queue.push(due("drift", "", Lane::Drift));
    assert_eq!(order(&queue).await, ["end", "narrow", "apply-1", "apply-2", "drift"]);
}

#[tokio::test]
async fn what_is_due_twice_is_one_look_for_both() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    queue.push(due("a", "1", Lane::Drift));
    queue.push(due("b", "1", Lane::Apply));
    queue.push(Due { changed: true, ..due("a", "2", Lane::End) });
    let first = next(&queue).await.unwrap();
    assert_eq!((&*first.key.client, first.lane, first.changed), ("a", Lane::End, true));
    assert_eq!(first.grants.iter().map(|g| &**g).collect::<Vec<_>>(), ["1", "2"]);
    queue.done(&first.key);
    let second = next(&queue).await.unwrap();
    assert_eq!((&*second.key.client, second.changed), ("b", false));
    queue.done(&second.key);
    assert!(next(&queue).await.is_none());
}

#[tokio::test]
async fn a_client_is_in_one_hand_at_a_time() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    queue.push(due("a", "1", Lane::Apply));
    let first = next(&queue).await.unwrap();
    queue.push(due("a", "2", Lane::End));
    assert!(next(&queue).await.is_none(), "another worker must not have it");
    queue.push(due("b", "", Lane::Drift));
    assert_eq!(&*next(&queue).await.unwrap().key.client, "b", "it holds up nobody else");
    queue.done(&first.key);
    let again = next(&queue).await.expect("nothing is lost");
    assert_eq!(again.grants.iter().map(|g| &**g).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn nobody_works_before_everything_was_read_and_then_the_overdue_first() {
    let queue = Queue::default();
    queue.push(due("new", "", Lane::Apply));
    queue.at(&key_of("timer"), Arc::from("t"), clock::now(), Lane::Drift);
    assert!(next(&queue).await.is_none());
    queue.begin(vec![due("late-1", "", Lane::End), due("new-2", "", Lane::Apply), due("late-2", "", Lane::End)]);
    let first = next(&queue).await.unwrap();
    let second = next(&queue).await.unwrap();
    assert_eq!([&*first.key.client, &*second.key.client], ["late-1", "late-2"]);
    assert!(next(&queue).await.is_none(), "nothing is begun before they are done");
    queue.done(&first.key);
    assert!(next(&queue).await.is_none());
    queue.done(&second.key);
    assert_eq!(order(&queue).await, ["new", "new-2", "timer"]);
}

/// A provider that does not answer, or has much overdue, holds up nobody else.
#[tokio::test]
async fn each_provider_has_its_share_of_the_workers() {
    let elsewhere = |client: &str, lane| {
        let mut due = due(client, "", lane);
        due.key.provider.name = "other".into();
        due
    };
    let queue = Queue::default();
    queue.begin((0..40).map(|n| due(&format!("late-{n}"), "", Lane::End)).collect());
    queue.push(elsewhere("new", Lane::Apply));
    let mut taken = Vec::new();
    while let Some(due) = next(&queue).await {
        taken.push(due);
    }
    let others = taken.iter().filter(|d| d.key.provider.name == "other").count();
    assert_eq!((taken.len() - others, others), (16, 1));
    queue.done(&taken[0].key);
    assert!(next(&queue).await.unwrap().key.client.starts_with("late-"));
    let queue = Queue::default();
    queue.begin(Vec::new());
    (0..40).for_each(|n| queue.push(due(&format!("new-{n}"), "", Lane::Apply)));
    let mut taken = 0;
    while next(&queue).await.is_some() {
        taken += 1;
    }
    queue.push(due("ending", "", Lane::End));
    assert_eq!((taken, &*next(&queue).await.unwrap().key.client), (12, "ending"), "some are kept for what ends");
}

#[tokio::test]
async fn a_timer_fires_once_and_a_later_word_replaces_it() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    let now = clock::now();
    let soon = now + Duration::from_millis(80);
    queue.at(&key_of("a"), Arc::from("1"), now + Duration::from_secs(3600), Lane::Drift);
    queue.at(&key_of("a"), Arc::from("1"), soon, Lane::End);
    queue.at(&key_of("a"), Arc::from("2"), soon, Lane::Drift);
    assert!(next(&queue).await.is_none());
    let fired = tokio::time::timeout(Duration::from_secs(5), queue.pop()).await.unwrap();
    assert!(clock::now() >= soon, "never early");
    assert_eq!((fired.lane, fired.grants.len(), fired.changed), (Lane::End, 2, false));
    queue.done(&fired.key);
    assert!(next(&queue).await.is_none());
}

/// A push wakes whoever waits, from whichever thread.
#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost() {
    let queue = Arc::new(Queue::default());
    queue.begin(Vec::new());
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while let Ok(due) = tokio::time::timeout(Duration::from_secs(2), queue.pop()).await {
                    queue.done(&due.key);
                    count += due.grants.len();
                }
                count
            })
        })
        .collect();
    for n in 0..2_000 {
        queue.push(due(&format!("client-{}", n % 50), &format!("grant-{n}"), Lane::Apply));
        if n % 97 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = 0;
    for worker in workers {
        seen += worker.await.unwrap();
    }
    assert_eq!(seen, 2_000);
}
