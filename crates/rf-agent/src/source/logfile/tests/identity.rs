//! Which file is which, where not even the inode or the beginning tells.

use std::fs;
use std::time::Duration;

use rf_core::clock::thread_time;

use super::super::print::Print;
use super::super::record::{FileId, Record};
use super::moved::{Folders, look, pack, read, set_age, stop};
use super::rotation::{numbered, text};

#[tokio::test]
async fn an_inode_that_is_used_again_is_another_file_though_it_begins_alike() {
    let folders = Folders::new("old/*.log");
    folders.append("log/app.log", &text(0..3));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..3));
    folders.append("log/app.log", &text(3..5));
    let records = stop(&tailer);
    if records.iter().filter_map(|(_, record)| record.id).all(|id| id.born == 0) {
        println!("not tried: this file system does not keep when a file was made");
        return;
    }
    assert_eq!(look(&mut folders.start(records.clone())), numbered(3..5));
    let mut earlier = records;
    for id in earlier.iter_mut().filter_map(|(_, record)| record.id.as_mut()) {
        id.born -= 1;
    }
    assert_eq!(look(&mut folders.start(earlier)), numbered(0..5));
}

/// Longer than the print of a beginning.
fn banner() -> String {
    format!("{}\n", "-".repeat(1500))
}

#[tokio::test]
async fn a_shorter_file_that_begins_as_one_that_is_gone_is_read() {
    for is_stopped in [true, false] {
        for is_packed in [true, false] {
            let folders = Folders::new("old/app.log*");
            folders.append("log/app.log", &format!("{}{}", banner(), text(0..300)));
            let mut tailer = folders.start(Vec::new());
            assert_eq!(look(&mut tailer).len(), 301);
            folders.remove("log/app.log");
            let shorter = format!("{}{}", banner(), text(500..700));
            if is_packed {
                pack(&folders.path("log/app.log.1.gz"), &shorter);
            } else {
                folders.append("log/app.log.1", &shorter);
                set_age(&folders.path("log/app.log.1"), 60);
            }
            if is_stopped {
                tailer = folders.start(stop(&tailer));
            }
            let lines = look(&mut tailer);
            assert_eq!(lines.get(1..), Some(&numbered(500..700)[..]), "{is_stopped} {is_packed}");
        }
    }
}

#[tokio::test]
async fn a_shorter_compressed_file_that_begins_as_one_that_is_there_is_read() {
    for longer in ["log/app.log.2", "log/app.log.2.gz"] {
        let folders = Folders::new("old/app.log*");
        let content = format!("{}{}", banner(), text(0..300));
        folders.append("log/app.log", &content);
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 301);
        if longer.ends_with(".gz") {
            folders.remove("log/app.log");
            pack(&folders.path(longer), &content);
        } else {
            fs::rename(folders.path("log/app.log"), folders.path(longer)).unwrap();
        }
        assert_eq!(look(&mut tailer), numbered(0..0), "{longer}");
        pack(&folders.path("log/app.log.1.gz"), &format!("{}{}", banner(), text(500..700)));
        let lines = look(&mut tailer);
        assert_eq!(lines.get(1..), Some(&numbered(500..700)[..]), "{longer}");
    }
}

#[tokio::test]
async fn a_compressed_file_with_the_beginning_and_the_length_of_another_is_read() {
    for is_gone in [true, false] {
        let folders = Folders::new("old/app.log*");
        folders.append("log/app.log", &format!("{}{}", banner(), text(100..400)));
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 301);
        if is_gone {
            folders.remove("log/app.log");
            tailer = folders.start(stop(&tailer));
        }
        pack(&folders.path("log/app.log.1.gz"), &format!("{}{}", banner(), text(400..700)));
        let lines = look(&mut tailer);
        assert_eq!(lines.get(1..), Some(&numbered(400..700)[..]), "{is_gone}");
    }
}

#[tokio::test]
async fn a_copy_is_not_read_again_though_more_was_read_of_its_original_before_that_was_emptied() {
    for is_stopped in [true, false] {
        let folders = Folders::new("old/app.log*");
        folders.append("log/app.log", &format!("{}{}", banner(), text(0..400)));
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 401);
        // It was begun before the last lines were written.
        folders.append("log/app.log.1", &format!("{}{}", banner(), text(0..300)));
        set_age(&folders.path("log/app.log.1"), 60);
        fs::write(folders.path("log/app.log"), text(400..410)).unwrap();
        if is_stopped {
            tailer = folders.start(stop(&tailer));
        }
        let mut lines = look(&mut tailer);
        lines.extend(look(&mut tailer));
        assert_eq!(lines, numbered(400..410), "{is_stopped}");
    }
}

#[tokio::test]
async fn many_files_that_are_gone_and_many_new_ones_are_told_apart_in_time() {
    const BEGINNING: usize = 16 * 1024;
    const NEW: usize = 300;
    let folders = Folders::new("old/*");
    let gone = |n: u64| {
        let path = folders.path(&format!("old/gone{n}.log"));
        let id = Some(FileId { dev: 1, ino: u64::MAX - n, born: 1 });
        let head = Print { len: BEGINNING, hash: n };
        let (family, name) = (path.clone(), path.clone());
        (
            n,
            Record {
                family,
                name,
                path,
                id,
                head,
                offset: 2 * BEGINNING as u64,
                ..Record::default()
            },
        )
    };
    let mut tailer = folders.start((0..3000).map(gone).collect());
    for n in 0..NEW {
        let path = folders.path(&format!("old/new{n}.log.gz"));
        pack(&path, &format!("{n} {}\n", "-".repeat(BEGINNING)));
        // Somebody may still be writing it, so that its length tells nothing.
        set_age(&path, 0);
    }
    let before = thread_time();
    tailer.look_around();
    let took = thread_time() - before;
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(read(&mut tailer).len(), NEW);
}
