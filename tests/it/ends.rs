//! Ends: what is told of a session's end is what happened.

use cloakroom::{Attributes, Event, Except, Missing, Reason, SessionId, Store};

use crate::support::{owned_by, poll_once, store_with};

// An application that ends a session as `Expired`, `Rotated` or `Evicted` makes the numbers, the
// events and the user's page tell of what never happened. Each call that ends takes these as
// `Revoked`.
#[test]
fn a_caller_cannot_tell_of_what_only_the_store_does() {
    type End = fn(&Store, SessionId, Reason);
    let calls: [End; 4] = [
        |s, id, reason| s.end(id, reason).unwrap(),
        |s, id, reason| assert!(s.end_owned("alice", id, reason).unwrap()),
        |s, _, reason| assert_eq!(s.end_owner("alice", Except(None), reason).unwrap(), 1),
        |s, _, reason| assert_eq!(s.end_all(reason).unwrap(), 1),
    ];
    for reason in Reason::ALL {
        let told = if reason == Reason::LoggedOut { reason } else { Reason::Revoked };
        for (call, end) in calls.iter().enumerate() {
            let store = store_with(|b| b.shards(2));
            let id = store.create_with(Attributes::new(), owned_by("alice")).unwrap().id();
            let (events, mut watch) = (store.events(), store.watch(id));
            end(&store, id, reason);
            let name = format!("call {call} with {reason:?}");
            assert_eq!(store.touch(id), Err(Missing::Ended(told)), "{name}");
            assert_eq!(poll_once(&mut watch), std::task::Poll::Ready(told), "{name}");
            let event = events.try_recv();
            assert!(
                matches!(event, Some(Event::Ended { reason, .. }) if reason == told),
                "{name}: {event:?}"
            );
            let stats = store.stats();
            assert_eq!(stats.ended.iter().sum::<u64>(), 1, "{name}");
            assert_eq!(stats.ended_by(told), 1, "{name}");
        }
    }
}
