//! A connection against a plain socket, on each driver.

use super::*;
use crate::config::DriverChoice;
use crate::net::driver::{self, Driver};
use crate::net::{Timers, clock};
use std::io::{Read, Write};

fn on_both(f: impl AsyncFn(Driver)) {
    let mut drivers = vec![Driver::Epoll];
    drivers.extend(driver::choose(DriverChoice::IoUring).ok().map(|c| c.driver));
    for d in drivers {
        driver::block_on(d, f(d)).unwrap();
    }
}

async fn pair() -> (Conn, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let conn = Conn::new(TcpStream::connect_addr(addr).await.unwrap());
    (conn, listener.accept().unwrap().0)
}

#[test]
fn bytes_that_come_while_nobody_waits_are_not_lost() {
    on_both(async |d| {
        let (mut conn, mut peer) = pair().await;
        for round in 0..50u8 {
            conn.arm(Buf::take(64));
            // Polled once without a result, then left alone, as a pool or a write would do.
            assert_eq!(conn.check_idle(), Idle::Quiet, "{d:?}");
            peer.write_all(&[round; 10]).unwrap();
            monoio::time::sleep(std::time::Duration::from_micros(200)).await;
            let (n, buf) = conn.read().await;
            assert_eq!((n.unwrap(), buf.filled()), (10, &[round; 10][..]), "{d:?}");
        }
    });
}

#[test]
fn an_idle_connection_that_the_peer_closed_is_noticed() {
    on_both(async |d| {
        let (mut conn, peer) = pair().await;
        conn.arm(Buf::take(64));
        assert_eq!(conn.check_idle(), Idle::Quiet);
        drop(peer);
        monoio::time::sleep(std::time::Duration::from_millis(5)).await;
        assert_eq!(conn.check_idle(), Idle::Spoilt, "{d:?}");
    });
}

#[test]
fn a_dropped_connection_is_closed_although_a_read_is_armed() {
    on_both(async |d| {
        let (mut conn, mut peer) = pair().await;
        conn.arm(Buf::take(64));
        assert_eq!(conn.check_idle(), Idle::Quiet);
        drop(conn);
        monoio::time::sleep(std::time::Duration::from_millis(5)).await;
        peer.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "{d:?}");
    });
}

#[test]
fn a_reset_is_no_clean_end_although_a_read_is_armed() {
    on_both(async |d| {
        let (mut conn, mut peer) = pair().await;
        conn.arm(Buf::take(64));
        assert_eq!(conn.check_idle(), Idle::Quiet);
        conn.reset();
        drop(conn);
        monoio::time::sleep(std::time::Duration::from_millis(5)).await;
        peer.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        let end = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{d:?}");
    });
}

#[test]
fn a_big_gathered_write_arrives_whole_and_in_order() {
    on_both(async |d| {
        let (mut conn, mut peer) = pair().await;
        let body: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let mut expected = b"head".to_vec();
        expected.extend_from_slice(&body);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got
        });
        let mut g = Box::new(Gather::new(Buf::copy_of(b"head"), Buf::copy_of(&body)));
        assert!(g.piece(crate::net::gather::Side::Own, 0..4));
        assert!(g.piece(crate::net::gather::Side::Body, 0..body.len()));
        let (result, _g) = conn.write_gather(g).await;
        result.unwrap();
        drop(conn);
        assert!(reader.join().unwrap() == expected, "{d:?}");
    });
}

#[test]
fn a_peer_that_does_not_read_keeps_little_waiting_in_the_kernel() {
    on_both(async |d| {
        let mut waiting = [0, 0];
        for (bound, waiting) in [Some(16 * 1024), None].into_iter().zip(&mut waiting) {
            let (mut conn, _peer) = pair().await;
            if let Some(bound) = bound {
                conn.bound_unsent(bound);
            }
            conn.start_write(Buf::copy_of(&vec![7; 8 << 20]));
            for _ in 0..20 {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(conn.poll_write(&mut cx).is_pending(), "{d:?}");
                monoio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let mut unsent: libc::c_int = 0;
            // SAFETY: SIOCOUTQNSD writes one int, and the descriptor is open.
            let told = unsafe { libc::ioctl(conn.fd(), 0x894b, &raw mut unsent) };
            assert_eq!(told, 0);
            *waiting = unsent;
        }
        let [bounded, free] = waiting;
        assert!(bounded <= 16 * 1024 + 64 * 1024, "{d:?}: {bounded} bytes wait");
        assert!(free > 4 * bounded, "{d:?}: {free} bytes wait without a bound, {bounded} with one");
    });
}

#[test]
fn lingering_delivers_the_answer_although_the_peer_still_sends() {
    on_both(async |d| {
        let (mut conn, mut peer) = pair().await;
        let timers = Timers::default();
        monoio::spawn(timers.clone().drive());
        peer.write_all(&vec![7; 100_000]).unwrap();
        conn.write(Buf::copy_of(b"answer")).await.0.unwrap();
        conn.linger(&timers, clock::now_us() + 200_000, 64 * 1024 * 1024).await;
        let mut got = [0; 6];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"answer", "{d:?}");
    });
}
