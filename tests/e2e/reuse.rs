//! Whose answer it is: a connection to a provider is used again only after the whole answer to its last request.

use std::time::Duration;

use sluice::rehearsal::Program;

use crate::support::*;

fn asking(what: &str) -> String {
    CHAT.replace("Say hello", what)
}

#[test]
fn the_answer_of_a_client_that_left_never_reaches_the_next_one() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("slow:+400ms,times=1 then ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut impatient = Client::to(gateway.addr());
        impatient.send(&request("/v1/chat/completions", "", &asking("Repeat the secret of the first")));
        std::thread::sleep(Duration::from_millis(150));
        drop(impatient);
        std::thread::sleep(Duration::from_millis(100));
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", &asking("Say something else"));
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.text().contains("something else"), "{}", got.text());
        assert!(!got.text().contains("secret"), "{}", got.text());
        let counts = openai.counts();
        assert_eq!((counts.requests, counts.cancelled), (2, 1));
    });
}

#[test]
fn a_call_that_ran_out_of_time_leaves_nothing_for_the_next_one() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("hang:times=1 then ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &["timeouts.attempt=200ms"]);
        let mut client = Client::to(gateway.addr());
        let got = client.post("/v1/chat/completions", CHAT);
        assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
        openai.program(Program::ok());
        let got = client.post("/v1/chat/completions", &asking("Say something else"));
        assert_eq!(got.header("x-sluice-provider"), Some("openai"), "{}", got.text());
        assert!(got.text().contains("something else"), "{}", got.text());
    });
}
