//! What can happen to the cable of a host: it is cut, or packets on it are lost without a trace.

use std::fmt;

use clap::ValueEnum;

use super::inside;
use crate::tools::{self, output};

/// Packets that get lost, as the host sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lost {
    /// Those that it should receive
    In,
    /// Those that it sends
    Out,
    /// All
    Both,
}

/// The lab's end of the cable of a host.
pub(crate) struct Cable {
    /// The process that keeps the lab's network.
    keeper: u32,
    /// The port of the bridge.
    port: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    Losing(Lost),
}

impl Cable {
    pub(super) fn new(keeper: u32, port: String) -> Self {
        Self { keeper, port, state: State::Whole }
    }

    /// Cuts it: both ends notice.
    ///
    /// # Errors
    /// When the host is off.
    pub(crate) fn cut(&mut self) -> anyhow::Result<()> {
        // In this order, so that nothing gets through in between.
        self.link("down")?;
        self.lose_nothing()?;
        self.state = State::Cut;
        Ok(())
    }

    /// Loses packets silently: nobody notices but by their absence.
    ///
    /// # Errors
    /// When the host is off, or the kernel has no nftables.
    pub(crate) fn lose(&mut self, lost: Lost) -> anyhow::Result<()> {
        tools::need(&[("nft", "nftables")])?;
        self.heal()?;
        let Self { port, .. } = self;
        let chain = |hook: &str| {
            let device = format!("hook {hook} device \"{port}\"");
            format!("chain {hook} {{ type filter {device} priority 0; policy drop; }};")
        };
        // What comes in at the bridge's port goes out of the host.
        let chains = match lost {
            Lost::In => chain("egress"),
            Lost::Out => chain("ingress"),
            Lost::Both => chain("ingress") + &chain("egress"),
        };
        let table = format!("table netdev {port} {{ {chains} }}");
        output(inside(self.keeper, "nft", &[&table]))?;
        self.state = State::Losing(lost);
        Ok(())
    }

    /// Makes it whole again.
    ///
    /// # Errors
    /// When the host is off.
    pub(crate) fn heal(&mut self) -> anyhow::Result<()> {
        self.lose_nothing()?;
        if self.state == State::Cut {
            self.link("up")?;
        }
        self.state = State::Whole;
        Ok(())
    }

    /// The host was off, and its port is a new one.
    ///
    /// # Errors
    /// When what has lost packets cannot be removed.
    pub(super) fn renew(&mut self) -> anyhow::Result<()> {
        self.lose_nothing()?;
        self.state = State::Whole;
        Ok(())
    }

    fn lose_nothing(&self) -> anyhow::Result<()> {
        if matches!(self.state, State::Losing(_)) {
            let delete = ["delete", "table", "netdev", &self.port];
            output(inside(self.keeper, "nft", &delete))?;
        }
        Ok(())
    }

    fn link(&self, to: &str) -> anyhow::Result<()> {
        output(inside(self.keeper, "ip", &["link", "set", &self.port, to])).map(drop)
    }
}

impl fmt::Display for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Whole => "connected",
            State::Cut => "cut",
            State::Losing(Lost::In) => "receives nothing",
            State::Losing(Lost::Out) => "sends nothing",
            State::Losing(Lost::Both) => "receives and sends nothing",
        })
    }
}
