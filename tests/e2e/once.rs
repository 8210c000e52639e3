//! One payment for one answer: what clients that send an `Idempotency-Key` get.

use std::time::{Duration, Instant};

use crate::support::*;

const KEY: &str = "Idempotency-Key: build-17\r\n";

fn ask(stream: bool) -> String {
    format!(
        r#"{{"model":"openai/gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    )
}

#[test]
fn the_same_request_is_answered_again_without_a_second_call() {
    each_driver(|driver| {
        for stream in [false, true] {
            let openai = provider("ok");
            let gateway = chain(openai.addr(), None, driver, &[]);
            let post = || Client::to(gateway.addr()).post_with("/v1/chat/completions", KEY, &ask(stream));
            let (first, again) = (post(), post());
            assert_eq!((first.status, first.header("idempotent-replayed")), (200, None), "{}", first.text());
            assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
            assert_eq!(first.text(), again.text());
            for name in ["x-request-id", "x-sluice-provider", "content-type"] {
                assert_eq!(first.header(name), again.header(name), "{name}");
            }
            assert_eq!(openai.counts().requests, 1);
        }
    });
}

#[test]
fn the_same_key_with_another_body_is_refused() {
    each_driver(|driver| {
        let openai = provider("ok");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        assert_eq!(client.post_with("/v1/chat/completions", KEY, &ask(false)).status, 200);
        let got = client.post_with("/v1/chat/completions", KEY, &ask(false).replace("hi", "bye"));
        assert_eq!(got.status, 422, "{}", got.text());
        assert_eq!(got.json()["error"]["code"], "idempotency_key_reused");
        // Another caller's key is another key.
        let other = format!("{KEY}Authorization: Bearer someone-else\r\n");
        assert_eq!(client.post_with("/v1/chat/completions", &other, &ask(false)).status, 200);
        assert_eq!(openai.counts().requests, 2);
    });
}

#[test]
fn who_asks_while_the_call_runs_waits_for_its_answer() {
    each_driver(|driver| {
        let openai = provider("slow:+700ms");
        let gateway = chain(openai.addr(), None, driver, &["workers=2"]);
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let addr = gateway.addr();
                std::thread::spawn(move || {
                    Client::to(addr).post_with("/v1/chat/completions", KEY, &ask(false))
                })
            })
            .collect();
        let answers: Vec<Got> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        for got in &answers {
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.text(), answers[0].text());
        }
        assert_eq!(openai.counts().requests, 1, "one payment for six answers");
    });
}

#[test]
fn the_call_of_a_client_that_left_is_finished_for_its_next_try() {
    each_driver(|driver| {
        for stream in [false, true] {
            let openai = provider(if stream { "stall:800ms,after=3" } else { "slow:+800ms" });
            let gateway = chain(openai.addr(), None, driver, &[]);
            let mut impatient = Client::to(gateway.addr());
            impatient.send(&request("/v1/chat/completions", KEY, &ask(stream)));
            if stream {
                assert!(impatient.read_until(b"\"content\""));
            } else {
                std::thread::sleep(Duration::from_millis(200));
            }
            drop(impatient);
            let got = Client::to(gateway.addr()).post_with("/v1/chat/completions", KEY, &ask(stream));
            assert_eq!(
                (got.status, got.header("idempotent-replayed")),
                (200, Some("true")),
                "{}",
                got.text()
            );
            assert!(got.whole);
            if stream {
                assert!(got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
            }
            assert_eq!(openai.counts().requests, 1);
        }
    });
}

#[test]
fn the_timeout_of_an_sdk_does_not_stop_a_call_whose_answer_is_kept() {
    each_driver(|driver| {
        let openai = provider("slow:+900ms");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let headers = format!("{KEY}X-Stainless-Timeout: 0.3\r\n");
        let mut impatient = Client::to(gateway.addr());
        impatient.send(&request("/v1/chat/completions", &headers, &ask(false)));
        std::thread::sleep(Duration::from_millis(400));
        drop(impatient);
        let got = Client::to(gateway.addr()).post_with("/v1/chat/completions", KEY, &ask(false));
        assert_eq!((got.status, got.header("idempotent-replayed")), (200, Some("true")), "{}", got.text());
        assert_eq!(openai.counts().requests, 1);
    });
}

#[test]
fn a_call_that_failed_is_made_again() {
    each_driver(|driver| {
        let openai = provider("status:400,times=1");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let post = || Client::to(gateway.addr()).post_with("/v1/chat/completions", KEY, &ask(false));
        assert_eq!(post().status, 400);
        assert_eq!(post().status, 200);
        assert_eq!(openai.counts().requests, 2);
    });
}

#[test]
fn without_a_key_a_client_that_leaves_stops_its_call() {
    each_driver(|driver| {
        let openai = provider("slow:+20s");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let mut impatient = Client::to(gateway.addr());
        impatient.send(&request("/v1/chat/completions", "", &ask(false)));
        std::thread::sleep(Duration::from_millis(200));
        drop(impatient);
        let until = Instant::now() + Duration::from_secs(5);
        while openai.counts().in_progress > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(openai.counts().in_progress, 0);
    });
}

#[test]
fn a_key_that_cannot_be_one_is_refused_with_what_to_do() {
    each_driver(|driver| {
        let openai = provider("ok");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let headers = format!("Idempotency-Key: {}\r\n", "x".repeat(256));
        let got = Client::to(gateway.addr()).post_with("/v1/chat/completions", &headers, &ask(false));
        assert_eq!(got.status, 400);
        assert!(got.text().contains("1 to 255 bytes"), "{}", got.text());
    });
}
