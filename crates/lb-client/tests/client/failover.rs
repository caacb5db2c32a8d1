//! Balancers and workers that come and go while calls are made.

use lb_client::{Balanced, Source};

use crate::{
    SERVICE, SOON, balancer::FakeBalancer, client, connect, info, reverse, soon, worker::FakeWorker,
};

/// Calls until one was chosen as wanted; none may fail meanwhile.
async fn call_until(channel: &Balanced, source: Source, balancer: &str) {
    let mut caller = client(channel);
    soon(async {
        loop {
            let response = caller.run(reverse("x")).await.unwrap();
            let found = info(&response);
            if found.source == source && found.balancer_id.as_str() == balancer {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn calls_go_on_without_a_balancer_and_return_to_it() {
    let mut workers = [FakeWorker::start("a").await, FakeWorker::start("b").await];
    let named = [("a", workers[0].address), ("b", workers[1].address)];
    let mut balancer = FakeBalancer::start("lb-1", &named).await;
    let channel = connect(&[&balancer]).await;
    call_until(&channel, Source::Session, "lb-1").await;

    balancer.kill().await;
    call_until(&channel, Source::Local, "lb-1").await;
    for worker in &mut workers {
        while worker.calls.try_recv().is_ok() {}
    }
    let mut caller = client(&channel);
    for _ in 0..100 {
        caller.run(reverse("x")).await.unwrap();
    }
    for worker in &mut workers {
        assert_eq!(worker.call().await, None, "no balancer expects this call, so it has no token");
    }

    let _restarted = FakeBalancer::start_at("lb-2", &named, balancer.address).await;
    call_until(&channel, Source::Session, "lb-2").await;
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn no_call_is_lost_when_the_balancer_is_killed_under_load() {
    let workers = [FakeWorker::start("a").await, FakeWorker::start("b").await];
    let named = [("a", workers[0].address), ("b", workers[1].address)];
    let mut balancer = FakeBalancer::start("lb-1", &named).await;
    let channel = connect(&[&balancer]).await;
    call_until(&channel, Source::Session, "lb-1").await;
    let callers = (0..16).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            call_until(&channel, Source::Local, "lb-1").await;
        })
    });
    let callers: Vec<_> = callers.collect();
    while balancer.script().issued < 100 {
        balancer.outcome().await;
    }
    balancer.kill().await;
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn another_balancer_takes_over() {
    let worker = FakeWorker::start("a").await;
    let named = [("a", worker.address)];
    let mut balancers =
        [FakeBalancer::start("lb-1", &named).await, FakeBalancer::start("lb-2", &named).await];
    let channel = connect(&[&balancers[0], &balancers[1]]).await;
    let first = channel.balancer_id().unwrap();
    let index = usize::from(first.as_str() == "lb-2");
    call_until(&channel, Source::Session, first.as_str()).await;
    balancers[index].kill().await;
    call_until(&channel, Source::Session, ["lb-2", "lb-1"][index]).await;
}

#[tokio::test]
async fn a_restarted_balancer_that_knows_nobody_yet_is_not_believed() {
    let worker = FakeWorker::start("a").await;
    let named = [("a", worker.address)];
    let mut balancer = FakeBalancer::start("lb-1", &named).await;
    let channel = connect(&[&balancer]).await;
    call_until(&channel, Source::Session, "lb-1").await;
    balancer.kill().await;
    let restarted = FakeBalancer::start_at("lb-2", &[], balancer.address).await;
    let mut caller = client(&channel);
    soon(async {
        while channel.balancer_id().is_none_or(|id| id.as_str() != "lb-2") {
            caller.run(reverse("x")).await.unwrap();
        }
    })
    .await;
    for _ in 0..20 {
        let response = caller.run(reverse("x")).await.unwrap();
        assert_eq!(info(&response).source, Source::Local);
    }
    restarted.set_workers(&named);
    call_until(&channel, Source::Session, "lb-2").await;
}

#[tokio::test]
async fn a_worker_restarted_at_its_address_is_dialled_again() {
    let mut worker = FakeWorker::start("a").await;
    let balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    client(&channel).run(reverse("x")).await.unwrap();
    worker.kill().await;
    let again = FakeWorker::start_at("a", worker.address).await;
    // A first call may still have met the old connection, at the moment it went down.
    let mut caller = client(&channel);
    soon(async { while caller.run(reverse("x")).await.is_err() {} }).await;
    caller.run(reverse("x")).await.unwrap();
    assert_eq!(again.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_lazy_channel_waits_for_the_first_balancer() {
    let worker = FakeWorker::start("a").await;
    let address = crate::nobody_yet();
    let channel = Balanced::builder(SERVICE)
        .balancers([address.to_string()])
        .wait(SOON)
        .connect_lazy()
        .unwrap();
    let mut caller = client(&channel);
    let call = tokio::spawn(async move { caller.run(reverse("x")).await });
    let _balancer = FakeBalancer::start_at("lb-1", &[("a", worker.address)], address).await;
    soon(call).await.unwrap().unwrap();
}
