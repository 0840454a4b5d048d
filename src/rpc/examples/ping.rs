//! CPU per call between two nodes: `cargo run --release -p meridian-rpc --example ping [calls] [callers]`.
//!
//! Two nodes with a thread each, so that all wake-ups and system calls of two processes are there;
//! the figure is the CPU time of both together, in µs per call.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_base::{Hlc, Instant, NodeId, SystemClock};
use meridian_rpc::{Class, Handler, Refusal, Rpc, RpcConfig, Transport, Version};
use tokio::runtime::{Builder, Runtime};

struct Echo;

impl Handler for Echo {
    fn call(
        self: Arc<Self>,
        _from: NodeId,
        _service: u8,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        futures::future::ready(Ok(body)).boxed()
    }

    fn message(&self, _from: NodeId, _service: u8, _body: Bytes) {}
}

fn node(id: u64) -> (Runtime, Arc<Rpc>) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let config = RpcConfig {
        node: NodeId(id),
        cluster: 1,
        incarnation: 1,
        advertise: listener.local_addr().expect("bound").to_string(),
        listener: Some(listener),
        tls: None,
        hlc: Arc::new(Hlc::new(Arc::new(SystemClock), Duration::from_millis(250))),
        version: Version::THIS,
    };
    let entered = runtime.enter();
    let rpc = Rpc::start(config, Arc::new(Echo)).expect("started");
    drop(entered);
    (runtime, rpc)
}

/// User and system time of the process, in ticks of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a line").split_whitespace().collect();
    [11, 12].map(|i: usize| fields[i].parse::<f64>().expect("a number")).iter().sum::<f64>() * 1e4
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<u32>().ok());
    let calls = arguments.next().unwrap_or(200_000);
    let callers = arguments.next().unwrap_or(1);
    let ((runtime, a), (_other, b)) = (node(1), node(2));
    a.set_address(NodeId(2), &b.local_addr().expect("listens").to_string());
    let run = |calls: u32| {
        let tasks = (0..callers).map(|_| {
            let a = a.clone();
            runtime.spawn(async move {
                for _ in 0..calls / callers {
                    let body = Bytes::from_static(&[7; 100]);
                    a.call(NodeId(2), Class::Kv, 1, body).await.expect("an answer");
                }
            })
        });
        runtime.block_on(futures::future::join_all(tasks));
    };
    run(calls / 10);
    let (before, since) = (cpu(), Instant::now());
    run(calls);
    let per_call = |micros: f64| micros / f64::from(calls);
    let (used, wall) = (per_call(cpu() - before), per_call(since.elapsed().as_secs_f64() * 1e6));
    println!("{calls} calls by {callers}: {used:.1} µs CPU, {wall:.1} µs wall per call");
}
