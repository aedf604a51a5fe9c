use super::*;

fn spans(book: &LeaseBook) -> Vec<(u64, u64, u32)> {
    book.available(usize::MAX).iter().map(|s| (s.first, s.last, s.attempts)).collect()
}

fn grant_next(book: &mut LeaseBook, count: u64, until: u64, token: u64) {
    let span = book.available(1)[0];
    let last = span.last.min(span.first + count - 1);
    book.grant(span, (span.first, last), Hold { until, ttl_ms: 30_000, token });
}

fn extend(book: &mut LeaseBook, token: u64, until: u64) -> bool {
    book.extend(Hold { until, ttl_ms: 30_000, token })
}

#[test]
fn what_is_held_is_not_given_again_until_it_runs_out() {
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 10, 100, 1);
    grant_next(&mut book, 5, 200, 2);
    assert_eq!(spans(&book), [(15, u64::MAX, 0)]);
    assert!(!book.expire(99));
    assert!(book.expire(100));
    assert_eq!(spans(&book), [(0, 9, 1), (15, u64::MAX, 0)]);
    assert_eq!(book.next_expiry(), Some(200));
}

#[test]
fn acknowledged_ids_leave_the_range_around_them() {
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 10, 100, 1);
    book.forget(3, 4, u64::MAX);
    book.expire(100);
    assert_eq!(spans(&book), [(0, 2, 1), (5, 9, 1), (10, u64::MAX, 0)]);
    book.forget(0, 9, u64::MAX);
    assert_eq!(spans(&book), [(10, u64::MAX, 0)]);
}

#[test]
fn released_ids_come_back_at_once_and_the_rest_stays_held() {
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 10, 100, 1);
    assert_eq!(book.release(8, 20, u64::MAX), 2);
    assert_eq!(spans(&book), [(8, 9, 1), (10, u64::MAX, 0)]);
    assert!(extend(&mut book, 1, 500));
    assert_eq!(book.next_expiry(), Some(500));
    assert!(!book.expire(499));
    assert!(!extend(&mut book, 77, 500));
}

#[test]
fn a_book_written_row_by_row_reads_back_the_same() {
    let mut rows: BTreeMap<u64, Range> = BTreeMap::new();
    let mut book = LeaseBook::load([]);
    let mut flush = |book: &mut LeaseBook| {
        for (first, range) in book.take_touched() {
            match range {
                Some(range) => rows.insert(first, range),
                None => rows.remove(&first),
            };
        }
        LeaseBook::load(rows.clone())
    };
    grant_next(&mut book, 100, 50, 1);
    flush(&mut book);
    book.forget(10, 20, u64::MAX);
    book.release(30, 40, u64::MAX);
    book.expire(60);
    let again = flush(&mut book);
    assert_eq!(again.ranges, book.ranges);
    assert_eq!(again.next_expiry(), book.next_expiry());
    assert_eq!(spans(&again), spans(&book));
}

#[test]
fn a_book_full_of_holes_is_joined_and_keeps_its_meaning() {
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 100, 50, 1);
    grant_next(&mut book, 100, 50, 2);
    (0..200).step_by(2).for_each(|id| book.forget(id, id, u64::MAX));
    assert_eq!(book.ranges.len(), 100);
    assert!(!book.limit(100), "within the bound nothing is joined");
    assert_eq!(book.ranges.len(), 100);
    assert!(!book.limit(2));
    assert_eq!(book.ranges.keys().copied().collect::<Vec<_>>(), [1, 101], "two leases stay two");
    assert!(book.limit(1), "and cannot be made one");
    assert!(extend(&mut book, 2, 500));
    book.expire(50);
    assert_eq!(spans(&book), [(1, 99, 1), (200, u64::MAX, 0)]);
    assert_eq!(book.next_expiry(), Some(500));
}

#[test]
fn at_the_bound_nothing_makes_more_ranges() {
    const MOST: u64 = 4;
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 100, 50, 1);
    assert_eq!((book.release(10, 10, MOST), book.count()), (1, 3));
    assert_eq!(book.release(20, 20, MOST), 0, "it stays held");
    assert_eq!((book.release(90, 99, MOST), book.count()), (10, 4));
    assert_eq!(book.release(0, 9, MOST), 10, "a whole range");
    book.forget(50, 60, MOST);
    assert_eq!(book.ranges[&11].last, 89, "a gap in it");
    book.forget(11, 40, MOST);
    book.forget(80, 99, MOST);
    assert_eq!(book.ranges[&41].last, 79);
    assert!(book.expire(50));
    assert_eq!(spans(&book), [(0, 9, 1), (10, 10, 1), (41, 79, 1), (100, u64::MAX, 0)]);
}

#[test]
fn returned_ranges_are_joined_with_the_fewer_attempts_and_others_stay_as_they_are() {
    let mut book = LeaseBook::load([]);
    (1..=4).for_each(|token| grant_next(&mut book, 10, 50, token));
    book.release(0, 9, u64::MAX);
    let first = book.available(1)[0];
    book.grant(first, (0, 9), Hold { until: 10, ttl_ms: 30_000, token: 5 });
    book.expire(10);
    book.release(10, 19, u64::MAX);
    assert_eq!(spans(&book), [(0, 9, 2), (10, 19, 1), (40, u64::MAX, 0)]);
    book.take_touched();
    assert!(!book.limit(3));
    assert_eq!(spans(&book), [(0, 19, 1), (40, u64::MAX, 0)]);
    let touched: Vec<u64> = book.take_touched().into_iter().map(|(first, _)| first).collect();
    assert_eq!(touched, [0, 10], "nobody writes the others again");
}

#[test]
fn an_event_that_appears_late_is_given_out_too() {
    let mut book = LeaseBook::load([]);
    grant_next(&mut book, 10, 50, 1);
    book.forget(0, 9, u64::MAX);
    book.offer(4);
    book.offer(4);
    book.offer(30);
    assert_eq!(spans(&book), [(4, 4, 0), (10, u64::MAX, 0)]);
}
