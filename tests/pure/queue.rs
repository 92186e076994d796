//! Which client is next: lanes, order within a lane, one worker for each client, and what comes first
//! after a start.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clientgrant::clock;
use clientgrant::controller::queue::Queue;
use clientgrant::world::{Due, Lane};
use futures::FutureExt as _;
use proptest::prelude::*;

use crate::support::{dear, key_of};

fn due(client: &str, grant: &str, lane: Lane) -> Due {
    let grants = if grant.is_empty() { BTreeSet::new() } else { [Arc::from(grant)].into() };
    Due::look(key_of(client), grants, lane)
}

/// The same, made due by a namespace.
fn due_of(namespace: &str, client: &str, lane: Lane) -> Due {
    due(client, client, lane).of(namespace)
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
    queue.at(due("timer", "", Lane::Drift), Arc::from("t"), clock::now());
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
    queue.begin((0..40).map(|n| due_of(&format!("namespace-{}", n % 10), &format!("late-{n}"), Lane::End)).collect());
    queue.push(elsewhere("new", Lane::Apply));
    let taken = all(&queue).await;
    let others = taken.iter().filter(|d| d.key.provider.name == "other").count();
    assert_eq!((taken.len() - others, others), (16, 1));
    queue.done(&taken[0].key);
    assert!(next(&queue).await.unwrap().key.client.starts_with("late-"));
    let queue = Queue::default();
    queue.begin(Vec::new());
    (0..40).for_each(|n| queue.push(due_of(&format!("namespace-{n}"), &format!("new-{n}"), Lane::Apply)));
    assert_eq!(all(&queue).await.len(), 12);
    queue.push(due_of("namespace-0", "ending", Lane::End));
    assert_eq!(&*next(&queue).await.unwrap().key.client, "ending", "some are kept for what ends");
}

/// Everything that is handed out at once.
async fn all(queue: &Queue) -> Vec<Due> {
    let mut taken = Vec::new();
    while let Some(due) = next(queue).await {
        taken.push(due);
    }
    taken
}

#[tokio::test]
async fn a_namespace_with_thousands_that_end_holds_up_none_with_one() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    let hot = |n: usize, lane| due_of("hot", &format!("hot-{n}"), lane);
    queue.push_all((0..5_000).map(|n| hot(n, if n < 2_500 { Lane::End } else { Lane::Drift })));
    let mut taken = all(&queue).await;
    assert_eq!(taken.len(), 8, "its share");
    queue.push(due_of("b", "b", Lane::End));
    queue.push(due_of("c", "c", Lane::Apply));
    let (b, c) = (next(&queue).await.unwrap(), next(&queue).await.unwrap());
    assert_eq!([&*b.key.client, &*c.key.client], ["b", "c"], "at once, whatever the other one has");
    assert_eq!((&*queue.turn(&b.key), &*queue.turn(&taken[0].key)), ("b", "hot"));
    assert!(next(&queue).await.is_none());
    queue.done(&taken.remove(0).key);
    queue.push(due_of("b", "b-2", Lane::Drift));
    assert_eq!(&*next(&queue).await.unwrap().key.client, "hot-8", "what ends goes first, whoever has its turn");
}

/// Hundreds of grants that end in the same second: no client waits until those of another one have been told.
#[tokio::test]
async fn an_end_waits_for_no_telling() {
    let queue = Queue::default();
    queue.begin((0..20).map(|n| due_of("a", &format!("end-{n}"), Lane::End)).collect());
    queue.push(due_of("a", "new", Lane::Apply));
    let taken = all(&queue).await;
    assert_eq!(taken.len(), 8);
    taken.iter().for_each(|due| queue.telling(&due.key));
    let more = all(&queue).await;
    assert_eq!(more.len(), 8);
    more.iter().for_each(|due| queue.telling(&due.key));
    let rest = all(&queue).await;
    assert_eq!(rest.len(), 4);
    rest.iter().for_each(|due| queue.telling(&due.key));
    assert!(next(&queue).await.is_none(), "what begins waits for the telling too");
    queue.push(due_of("a", "end-0", Lane::End));
    assert!(next(&queue).await.is_none(), "a client that is told about is in somebody's hands");
    taken.iter().chain(&more).for_each(|due| queue.done(&due.key));
    let clients: Vec<_> = all(&queue).await.into_iter().map(|due| due.key.client.to_string()).collect();
    assert_eq!(clients, ["end-0", "new"]);
}

#[tokio::test]
async fn namespaces_take_turns() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    for client in ["a-1", "a-2", "a-3", "a-4", "b-1", "b-2", "c-1"] {
        queue.push(due_of(&client[..1], client, Lane::End));
    }
    queue.push(due_of("a", "a-0", Lane::Narrow));
    assert_eq!(order(&queue).await, ["a-1", "b-1", "c-1", "a-2", "b-2", "a-3", "a-4", "a-0"]);
}

/// A client may have grants of several namespaces: it is looked at in the turn that comes first.
#[tokio::test]
async fn a_client_of_two_namespaces_comes_with_the_earlier_turn() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    (0..50).for_each(|n| queue.push(due_of("hot", &format!("hot-{n}"), Lane::End)));
    queue.push(due_of("hot", "shared", Lane::End));
    queue.push(due_of("b", "shared", Lane::End));
    let order = order(&queue).await;
    assert!(order.iter().position(|client| client == "shared").unwrap() <= 1, "{order:?}");
    assert_eq!(order.len(), 51, "it stands in two lines, and is looked at once");
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

proptest! {
    #![proptest_config(dear(1_000))]

    /// Whatever comes in whatever order: everything is handed out, no client to two workers, never more of one
    /// namespace than its share, and nobody has two turns while another one waits in the same lane.
    #[test]
    fn fuzz_everything_is_served_by_turns(
        pushes in proptest::collection::vec((0..4_usize, 0..20_usize, 0..4_usize, any::<bool>()), 1..160),
    ) {
        let lanes = [Lane::End, Lane::Narrow, Lane::Apply, Lane::Drift];
        RUNTIME.block_on(async {
            let queue = Queue::default();
            queue.begin(Vec::new());
            let now = || queue.pop().now_or_never();
            let (mut asked, mut served, mut busy) = (BTreeSet::new(), BTreeSet::new(), Vec::<Due>::new());
            for (n, (namespace, client, lane, pop)) in pushes.into_iter().enumerate() {
                let (namespace, client) = (format!("n-{namespace}"), format!("client-{client}"));
                queue.push(due(&client, &format!("grant-{n}"), lanes[lane]).of(&namespace));
                asked.insert(format!("grant-{n}"));
                if pop && let Some(due) = now() {
                    assert!(busy.iter().all(|b| b.key != due.key), "one worker at a time");
                    busy.push(due);
                    let mut held = std::collections::BTreeMap::<_, usize>::new();
                    busy.iter().for_each(|b| *held.entry(queue.turn(&b.key)).or_default() += 1);
                    assert!(held.values().all(|n| *n <= 8), "{held:?}");
                }
                if busy.len() > 12 {
                    let done = busy.swap_remove(n % 12);
                    served.extend(done.grants.iter().map(|g| g.to_string()));
                    queue.done(&done.key);
                }
            }
            for due in busy {
                served.extend(due.grants.iter().map(|g| g.to_string()));
                queue.done(&due.key);
            }
            let mut turns = Vec::new();
            while let Some(due) = now() {
                served.extend(due.grants.iter().map(|g| g.to_string()));
                turns.push((due.lane, queue.turn(&due.key), due.namespaces));
                queue.done(&due.key);
            }
            assert!(turns.is_sorted_by_key(|(lane, _, _)| *lane));
            for (n, (lane, turn, _)) in turns.iter().enumerate() {
                let again = turns.iter().skip(n + 1).position(|(l, t, _)| l == lane && t == turn);
                let Some(again) = again.map(|further| n + 1 + further) else { continue };
                let between: BTreeSet<_> = turns[n + 1..again].iter().map(|(_, t, _)| t).collect();
                for (_, _, waited) in turns[again + 1..].iter().filter(|(l, _, _)| l == lane) {
                    // A client of two namespaces stands in both lines, and so does either in its stead.
                    let one = waited.iter().next().filter(|_| waited.len() == 1);
                    assert!(one.is_none_or(|one| one == turn || between.contains(one)), "{turns:?}");
                }
            }
            assert_eq!(served, asked, "nothing is lost");
        });
    }
}

#[tokio::test]
async fn a_timer_fires_once_and_a_later_word_replaces_it() {
    let queue = Queue::default();
    queue.begin(Vec::new());
    let now = clock::now();
    let soon = now + Duration::from_secs(1);
    queue.at(due("a", "", Lane::Drift), Arc::from("1"), now + Duration::from_secs(3600));
    queue.at(due("a", "", Lane::End), Arc::from("1"), soon);
    queue.at(due("a", "", Lane::Drift), Arc::from("2"), soon);
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
