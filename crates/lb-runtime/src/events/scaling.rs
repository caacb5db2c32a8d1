//! What operators are told of workers that come and go.

use tracing::Level;

use super::{Event, SCALER, SERVER};

pub(super) const EVENTS: [Event; 16] = [
    Event {
        name: "scaler_joined",
        message_ids: &[(SERVER, "b805f8bcd4cf40dfadab48e8f33197e4")],
        level: Level::INFO,
        fields: &["host", "min", "max"],
        subject: "A scaler registered",
        text: "Host @LB_HOST@ offers to run @LB_MIN@ to @LB_MAX@ workers. It is planned for \
               as soon as it has reported what runs there.",
    },
    Event {
        name: "scaler_left",
        message_ids: &[(SERVER, "2aaa0f75467048d994e57af1d8afaf97")],
        level: Level::INFO,
        fields: &["host"],
        subject: "A scaler left in order",
        text: "Its daemon on host @LB_HOST@ was stopped or is restarted. Workers that are units of systemd \
               go on, and stay in the plan for a minute.",
    },
    Event {
        name: "scaler_lost",
        message_ids: &[(SERVER, "2f8dcb88cb444f82973183f682f9683e")],
        level: Level::WARN,
        fields: &["host"],
        subject: "A scaler is gone",
        text: "Host @LB_HOST@ is planned for no more. While its workers are registered they \
               stay in the plan for a minute; what is lost is made good on other hosts within \
               seconds. Look whether lb-scaler and its machine live; it registers again by \
               itself.",
    },
    Event {
        name: "scaler_refused",
        message_ids: &[(SERVER, "560c5b625d924614ad575386aed2f956")],
        level: Level::WARN,
        fields: &["host", "cause"],
        subject: "A scaler was not let in",
        text: "Host @LB_HOST@ cannot register: @LB_CAUSE@. Two scalers must not have the same \
               id (key `id` in lb-scaler.toml), and the service that is scaled must be among \
               theirs.",
    },
    Event {
        name: "scale_planned",
        message_ids: &[(SERVER, "bfab867fc5ec4f88aa5bf66700717285")],
        level: Level::INFO,
        fields: &["generation", "before", "desired", "missing", "reason"],
        subject: "The number of workers was planned",
        text: "@LB_DESIRED@ workers instead of @LB_BEFORE@, in plan @LB_GENERATION@: \
               @LB_REASON@. No host has room for @LB_MISSING@ of them. Each balancer plans; \
               scalers obey the one with the lowest id. \"lbctl scale plan\" tells what it \
               changes where.",
    },
    Event {
        name: "scale_set",
        message_ids: &[(SERVER, "faab0896f9c64a748ebbdead1bbbf726")],
        level: Level::INFO,
        fields: &["mode"],
        subject: "The number of workers was set by hand",
        text: "It is now: @LB_MODE@, by \"lbctl scale\". It holds for all balancers, and until \
               \"lbctl scale resume\".",
    },
    Event {
        name: "scaler_ready",
        message_ids: &[(SCALER, "7e43b1baed3f440082b9701554ea3c93")],
        level: Level::INFO,
        fields: &["host", "executor"],
        subject: "The scaler runs",
        text: "Host @LB_HOST@ is offered to every balancer. Workers are started and stopped \
               by @LB_EXECUTOR@.",
    },
    Event {
        name: "offered",
        message_ids: &[(SCALER, "6a962a6bcd0543da8eb0ce4adf7dabb8")],
        level: Level::INFO,
        fields: &["balancer", "address"],
        subject: "The host is offered to a balancer",
        text: "Balancer @LB_BALANCER@ at @LB_ADDRESS@ plans for this host. The plan of the \
               balancer with the lowest id is obeyed.",
    },
    Event {
        name: "plan_obeyed",
        message_ids: &[(SCALER, "48e7fd49c0c4481eba0d5d84c92f60c8")],
        level: Level::INFO,
        fields: &["generation", "desired", "here", "reason"],
        subject: "A plan is obeyed",
        text: "Of @LB_DESIRED@ workers in all, @LB_HERE@ should run here, by plan \
               @LB_GENERATION@: @LB_REASON@.",
    },
    Event {
        name: "instance_started",
        message_ids: &[(SCALER, "4553458a42614b60a7b7beb12e5e61b8")],
        level: Level::INFO,
        fields: &["number"],
        subject: "A worker is started",
        text: "Instance @LB_NUMBER@, as planned or after its death. It counts when it is \
               registered.",
    },
    Event {
        name: "instance_stopped",
        message_ids: &[(SCALER, "6dec3b2d9855480681f8d7375078471f")],
        level: Level::INFO,
        fields: &["number"],
        subject: "A worker is stopped",
        text: "Instance @LB_NUMBER@ is wanted no more. It drains first, so no call fails.",
    },
    Event {
        name: "instance_died",
        message_ids: &[(SCALER, "4ea9d0783b414bd3a14eab88a6778978")],
        level: Level::WARN,
        fields: &["number", "cause"],
        subject: "A worker died",
        text: "Instance @LB_NUMBER@: @LB_CAUSE@. It is started again after a pause; if it \
               dies five times within two minutes it is given up.",
    },
    Event {
        name: "instance_given_up",
        message_ids: &[(SCALER, "95a44f8343614ccba7ee022a4e776196")],
        level: Level::ERROR,
        fields: &["number", "cause"],
        subject: "A worker was given up",
        text: "Instance @LB_NUMBER@ is not started again for ten minutes: @LB_CAUSE@. Others \
               take its place where there is room. Look at its log ('journalctl -u lb-worker@@LB_NUMBER@'), and at the unit, the polkit rule and the memory of this \
               machine.",
    },
    Event {
        name: "executor_gone",
        message_ids: &[(SCALER, "66bbc97d421b4abdbef6698834b09e78")],
        level: Level::ERROR,
        fields: &["problem"],
        subject: "Workers cannot be started or stopped",
        text: "@LB_PROBLEM@. What runs goes on running. It is tried again every second, and \
               told to the balancers meanwhile.",
    },
    Event {
        name: "executor_back",
        message_ids: &[(SCALER, "db8150bedc0a40978d4014102deca368")],
        level: Level::INFO,
        fields: &[],
        subject: "Workers can be started and stopped again",
        text: "What is missing by the plan is started now, and what is too much stopped.",
    },
    Event {
        name: "scaler_stopped",
        message_ids: &[(SCALER, "3c91ea3d07224ddf99b7c26efde51eec")],
        level: Level::INFO,
        fields: &["host"],
        subject: "The scaler has stopped",
        text: "Host @LB_HOST@ is planned for no more. Units of systemd that it has started go \
               on running.",
    },
];
