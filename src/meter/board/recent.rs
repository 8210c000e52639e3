//! The last exchanges, kept as the bytes that came out of the ring: most are never looked at, so none is read before
//! somebody asks.

use std::collections::VecDeque;

use crate::meter::log::write_line;
use crate::meter::outbox::decode;

/// Exchanges kept. With 16 attempts each, the longest, 2 MB; usually 100 KB.
pub const RECENT_MAX: usize = 200;

/// Those exchanges, oldest first.
#[derive(Default)]
pub(super) struct Recent {
    kept: VecDeque<(u64, Vec<u8>)>,
    added: u64,
}

impl Recent {
    pub(super) fn add(&mut self, frame: &[u8], unix_us: u64) {
        // The memory of the one that goes is that of the one that comes.
        let mut bytes = match self.kept.len() < RECENT_MAX {
            true => Vec::new(),
            false => self.kept.pop_front().map(|(_, bytes)| bytes).unwrap_or_default(),
        };
        bytes.clear();
        bytes.extend_from_slice(frame);
        self.kept.push_back((unix_us, bytes));
        self.added += 1;
    }

    pub(super) fn last(&self) -> u64 {
        self.added
    }

    /// A list of `{"seq": N, ...line of the access log}`, newest first.
    pub(super) fn write(&self, after: u64, most: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        let newest_first = self.kept.iter().rev().zip((1..=self.added).rev());
        let mut comma = false;
        for ((unix_us, frame), seq) in newest_first.take_while(|(_, seq)| *seq > after).take(most) {
            let Some(entry) = decode(frame) else { continue };
            if comma {
                out.push(b',');
            }
            comma = true;
            out.extend_from_slice(format!("{{\"seq\":{seq},").as_bytes());
            let start = out.len();
            write_line(&entry, *unix_us, out);
            // One object: its brace is ours, and so is the line break at its end.
            out.remove(start);
            while out.last().is_some_and(|byte| *byte == b'\n') {
                out.pop();
            }
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::outbox::encode;
    use crate::meter::outbox::samples::PLAIN;

    fn kept(count: u64) -> Recent {
        let mut recent = Recent::default();
        let mut frame = Vec::new();
        for id in 1..=count {
            encode(&id.to_string(), &PLAIN, &[], &mut frame);
            recent.add(&frame, id * 1_000_000);
        }
        recent
    }

    fn listed(recent: &Recent, after: u64, most: usize) -> Vec<(u64, String)> {
        let mut out = Vec::new();
        recent.write(after, most, &mut out);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
        let each =
            |one: &serde_json::Value| (one["seq"].as_u64().unwrap(), one["id"].as_str().unwrap().to_owned());
        list.iter().map(each).collect()
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go_when_there_is_no_more_room() {
        for count in [RECENT_MAX as u64, RECENT_MAX as u64 + 1] {
            let recent = kept(count);
            let all = listed(&recent, 0, usize::MAX);
            assert_eq!((all.len(), recent.kept.len()), (RECENT_MAX, RECENT_MAX));
            assert_eq!((all[0].0, &*all[0].1), (count, &*count.to_string()));
            assert_eq!(all[RECENT_MAX - 1].0, count - RECENT_MAX as u64 + 1);
        }
    }

    #[test]
    fn a_page_that_has_some_gets_the_others() {
        let recent = kept(10);
        assert_eq!(listed(&recent, 8, 100), [(10, "10".to_owned()), (9, "9".to_owned())]);
        assert_eq!(listed(&recent, 10, 100), []);
        assert_eq!(listed(&recent, 0, 3).len(), 3);
        assert_eq!(listed(&Recent::default(), 0, 3), []);
    }
}
