//! Addresses that lead nowhere: half of them take connections and say nothing, half do not even answer a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::error::BenchError;
use crate::report::Report;

/// Connections that fill up the line of an address that does not answer: the system lets one more wait than it is told
/// to, and the next ones are not answered.
const FILL: usize = 2;
/// How long the filling ones are waited for: those that are not answered have filled it.
const FILL_WAIT: Duration = Duration::from_millis(100);
/// Connections that may wait at an address that answers.
const BACKLOG: u32 = 1024;

/// Where nothing is to answer.
#[derive(Debug, Clone, Args)]
pub struct HoleArgs {
    /// The first address, and the port on all of them.
    #[arg(long, default_value = "127.9.0.1:2600")]
    pub listen: SocketAddr,
    /// How many addresses follow one another.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub count: u32,
    /// Seconds to be there.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
}

/// Listens on all addresses until the time is over. Prints nothing and counts nothing.
pub async fn run(args: HoleArgs) -> Result<Report, BenchError> {
    let IpAddr::V4(first) = args.listen.ip() else {
        return Err(BenchError::Usage("an IPv4 address is wanted".to_owned()));
    };
    let mut holes = Vec::new();
    let mut filling = JoinSet::new();
    for place in 0..args.count {
        let ip = Ipv4Addr::from(u32::from(first).wrapping_add(place));
        let address = SocketAddr::from((ip, args.listen.port()));
        let silent = place % 2 == 0;
        holes.push(
            listen(address, silent).map_err(|source| BenchError::Listen {
                address: address.to_string(),
                source,
            })?,
        );
        if !silent {
            for _ in 0..FILL {
                filling.spawn(timeout(FILL_WAIT, TcpStream::connect(address)));
            }
        }
    }
    let mut held = Vec::new();
    while let Some(ended) = filling.join_next().await {
        // One that was not answered has done its work too.
        held.extend(ended.ok().and_then(Result::ok).and_then(Result::ok));
    }
    sleep(Duration::from_secs(args.seconds)).await;
    Ok(Report {
        workload: "hole".to_owned(),
        target: args.listen.to_string(),
        connections: u32::try_from(held.len()).unwrap_or(u32::MAX),
        ..Report::default()
    })
}

/// Listens at an address that nobody ever takes a connection from.
fn listen(address: SocketAddr, silent: bool) -> io::Result<tokio::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(if silent { BACKLOG } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_speaks_and_every_second_address_takes_no_connection() {
        let args = HoleArgs {
            listen: "127.9.200.1:2611".parse().unwrap(),
            count: 2,
            seconds: 60,
        };
        let holes = tokio::spawn(run(args));
        sleep(FILL_WAIT * 3).await;
        let connect = |address: &'static str| timeout(FILL_WAIT * 3, TcpStream::connect(address));
        assert!(
            connect("127.9.200.1:2611")
                .await
                .is_ok_and(|made| made.is_ok())
        );
        assert!(connect("127.9.200.2:2611").await.is_err());
        holes.abort();
    }
}
