//! What the journal gets beyond the plain fields: a `MESSAGE_ID` for each kind of event, and a text that says it all.
//!
//! `journalctl` shows the message alone, so the values are repeated in it: `worker joined: worker=alpha slots=4`.

use std::{fmt, io};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Value, Visit},
    span,
};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::events;

/// Before every field.
const FIELD_PREFIX: &str = "LB";
/// The field with the name of the kind.
const EVENT: &str = "event";
const MESSAGE: &str = "message";
/// The most fields that `tracing` lets an event have.
const FIELDS_LIMIT: usize = 32;

/// Writes to the journal.
///
/// The library has fields of the event, to which it adds a prefix, and fields that are the same for a whole layer, to
/// which it does not. A `MESSAGE_ID` must not have one, so each kind of event has a layer.
pub(super) struct Journal {
    plain: tracing_journald::Layer,
    /// For each kind of event by its name.
    known: Vec<(&'static str, tracing_journald::Layer)>,
}

impl Journal {
    /// Connects to the journal.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(super) fn new(identifier: &str) -> io::Result<Self> {
        let with_id = |event: &events::Event| {
            let message_id = event.message_id(identifier).map(|id| ("MESSAGE_ID", id));
            Ok((event.name, layer(identifier)?.with_custom_fields(message_id)))
        };
        let known = events::of(identifier).map(with_id);
        Ok(Self { plain: layer(identifier)?, known: known.collect::<io::Result<_>>()? })
    }
}

fn layer(identifier: &str) -> io::Result<tracing_journald::Layer> {
    // The library takes one step of urgency more for each level; then INFO would be shown as something unusual.
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    Ok(tracing_journald::layer()?
        .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
        .with_syslog_identifier(identifier.to_owned())
        .with_priority_mappings(priorities))
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Journal {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        self.plain.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        self.plain.on_record(span, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut values = Values::default();
        event.record(&mut values);
        let known = values.name().and_then(|name| self.known.iter().find(|known| known.0 == name));
        let layer = known.map_or(&self.plain, |(_, layer)| layer);
        values.with_full_message(event.metadata(), |event| layer.on_event(event, context));
    }
}

/// In debug builds: what is written is what [`events`] promises.
pub(super) struct Promises;

impl<S: Subscriber> Layer<S> for Promises {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut values = Values::default();
        event.record(&mut values);
        let Some(name) = values.name() else { return };
        let kind = events::named(name).unwrap_or_else(|| panic!("events::all() has no {name}"));
        let fields = event.metadata().fields().iter().map(|field| field.name());
        let fields: Vec<_> = fields.filter(|name| ![EVENT, MESSAGE].contains(name)).collect();
        assert_eq!(
            (kind.level, kind.fields),
            (*event.metadata().level(), &*fields),
            "events::all() says otherwise about {name}"
        );
    }
}

/// The values of an event as text.
#[derive(Default)]
struct Values(Vec<(Field, String)>);

impl Values {
    fn name(&self) -> Option<&str> {
        self.0.iter().find(|(field, _)| field.name() == EVENT).map(|(_, name)| name.as_str())
    }

    /// Makes the event anew, with the values in its message.
    fn with_full_message(
        mut self,
        metadata: &'static Metadata<'static>,
        write: impl FnOnce(&Event<'_>),
    ) {
        let shown = |field: &Field| ![EVENT, MESSAGE].contains(&field.name());
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|(field, _)| shown(field))
            .map(|(field, value)| format!("{}={value}", field.name()))
            .collect();
        let message = self.0.iter_mut().find(|(field, _)| field.name() == MESSAGE);
        if let Some((_, message)) = message.filter(|_| !pairs.is_empty()) {
            message.push_str(": ");
            message.push_str(&pairs.join(" "));
        }
        let Some((first, _)) = self.0.first() else { return };
        let mut values: [(&Field, Option<&dyn Value>); FIELDS_LIMIT] =
            [(first, None); FIELDS_LIMIT];
        for (place, (field, value)) in values.iter_mut().zip(&self.0) {
            *place = (field, Some(value));
        }
        write(&Event::new(metadata, &metadata.fields().value_set(&values)));
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.clone(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.clone(), format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{layer::SubscriberExt as _, registry::Registry};

    use super::*;

    /// Keeps what would be written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut values = Values::default();
            event.record(&mut values);
            values.with_full_message(event.metadata(), |event| {
                let mut values = Values::default();
                event.record(&mut values);
                let named =
                    values.0.into_iter().map(|(field, value)| (field.name().to_owned(), value));
                self.0.lock().unwrap().extend(named);
            });
        }
    }

    fn written(write: impl FnOnce()) -> Vec<(String, String)> {
        let layer = Written::default();
        let kept = Arc::clone(&layer.0);
        tracing::subscriber::with_default(Registry::default().with(layer), write);
        kept.lock().unwrap().clone()
    }

    #[test]
    fn the_message_says_what_the_fields_say() {
        let worker = "alpha";
        let found =
            written(|| tracing::info!(event = "stopped", %worker, slots = 4, "worker joined"));
        let expected = [
            ("message", "worker joined: worker=alpha slots=4"),
            ("event", "stopped"),
            ("slots", "4"),
            ("worker", "alpha"),
        ];
        let mut found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        found[1..].sort_unstable();
        assert_eq!(found, expected);
        let found = written(|| tracing::info!("nothing else"));
        assert_eq!(found, [("message".to_owned(), "nothing else".to_owned())]);
    }

    #[test]
    #[should_panic(expected = "events::all() says otherwise about worker_left")]
    fn an_event_that_is_not_as_promised_is_a_defect() {
        let subscriber = Registry::default().with(Promises);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(event = "worker_left", worker = "alpha", "worker left");
        });
    }
}
