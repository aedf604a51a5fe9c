use super::*;
use crate::answers::PendingCommit;

const FOREVER: Duration = Duration::from_secs(3600);

fn mailbox() -> (Mailbox, Arc<Lock>) {
    let lock = Arc::new(Lock::from(tempfile::tempfile().unwrap()));
    (Mailbox::running(&lock), lock)
}

fn append(bytes: usize) -> Op {
    let events = vec![vec![0; bytes].into()];
    Op::Commit(Commit::append(QueueId(0), events), PendingCommit::new().0)
}

fn is_taken(submitted: &Submitted) -> bool {
    matches!(submitted, Submitted::Yes)
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let check = |bytes: usize, expected: usize| {
        let (mailbox, lock) = mailbox();
        let taken =
            (0..=expected).take_while(|_| is_taken(&mailbox.submit(append(bytes), &lock))).count();
        assert_eq!(taken, expected, "requests of {bytes} bytes");
        let found = mailbox.take(Duration::ZERO);
        assert_eq!((found.ops.len(), found.turned_away), (expected, true));
        assert!(is_taken(&mailbox.submit(append(bytes), &lock)), "there is room again");
        assert!(!mailbox.take(Duration::ZERO).turned_away);
    };
    check(0, MAX_WAITING_OPS);
    check(MAX_WAITING_BYTES / 4, 4);
    check(MAX_WAITING_BYTES + 1, 1);
}

#[test]
fn a_writer_that_retires_is_started_by_the_next_request_and_by_one_only() {
    let (mailbox, lock) = mailbox();
    assert!(is_taken(&mailbox.submit(append(1), &lock)));
    assert!(!mailbox.retire(), "a request came meanwhile");
    mailbox.take(Duration::ZERO);
    assert!(mailbox.retire());
    assert_eq!(Arc::strong_count(&lock), 1, "the lock is let go with the writer");
    assert!(matches!(mailbox.submit(append(1), &lock), Submitted::StartWriter));
    assert!(is_taken(&mailbox.submit(append(1), &lock)));
    assert_eq!(Arc::strong_count(&lock), 2);
}

#[test]
fn a_sleeping_writer_is_woken_by_a_request_and_by_closing() {
    let (mailbox, lock) = mailbox();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| [(); 2].map(|()| mailbox.take(FOREVER).ops.len()));
        assert!(is_taken(&mailbox.submit(append(1), &lock)));
        while !mailbox.is_empty() {
            std::thread::yield_now();
        }
        mailbox.close();
        assert_eq!(writer.join().unwrap(), [1, 0]);
    });
    assert!(matches!(mailbox.submit(append(1), &lock), Submitted::Closed(_)));
}

#[tokio::test]
async fn whoever_waits_for_a_writer_that_cannot_start_is_told() {
    let (mailbox, lock) = mailbox();
    let (reply, mut answer) = PendingCommit::new();
    mailbox.submit(Op::Commit(Commit::default(), reply), &lock);
    mailbox.refuse_waiting(&StoreError::Failed("no disk".to_owned()));
    assert_eq!(answer.outcome().await, Err(CommitError::Failed("no disk".to_owned())));
    mailbox.wait_retired();
}
