//! Any sequence of calls and events against a model.

use proptest::prelude::*;

use super::*;

const BUFFERS: usize = 4;
/// Bytes of the entries that are recorded.
const ENTRY: u32 = 32;

#[derive(Clone, Debug)]
enum Action {
    Create(u32),
    Delete(u32),
    Map(u32),
    Unmap(u32),
    Release(u32),
    Flush(u32),
    Sources(bool),
    Record(u32),
    Message,
    Busy,
}

fn action() -> impl Strategy<Value = Action> {
    let index = 0..BUFFERS as u32 + 1;
    prop_oneof![
        2 => index.clone().prop_map(Action::Create),
        1 => index.clone().prop_map(Action::Delete),
        2 => index.clone().prop_map(Action::Map),
        1 => index.clone().prop_map(Action::Unmap),
        2 => index.clone().prop_map(Action::Release),
        1 => index.prop_map(Action::Flush),
        1 => any::<bool>().prop_map(Action::Sources),
        6 => (0..400u32).prop_map(Action::Record),
        2 => Just(Action::Message),
        1 => Just(Action::Busy),
    ]
}

/// What the documentation says, in the words of the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Model {
    #[default]
    Absent,
    Standby,
    Free,
    /// Entries in it.
    InUse(u32),
    Complete(u32),
    Ready(u32),
}

#[derive(Debug)]
struct Log {
    buffers: [Model; BUFFERS],
    /// Completed ones in the order of completion.
    completed: Vec<usize>,
    lost: u32,
    lost_in: [u32; BUFFERS],
    report: bool,
    enabled: bool,
    threshold: usize,
    circular: bool,
    capacity: u32,
}

type Answer = Result<(), HvStatus>;

impl Log {
    fn get(&mut self, index: u32) -> Option<&mut Model> {
        let buffer = self.buffers.get_mut(index as usize)?;
        (*buffer != Model::Absent).then_some(buffer)
    }

    fn create(&mut self, index: u32) -> Answer {
        match self.buffers.get_mut(index as usize) {
            Some(buffer @ Model::Absent) => *buffer = Model::Standby,
            _ => return Err(HvStatus::INVALID_PARAMETER),
        }
        Ok(())
    }

    /// A call that takes a buffer from one state to another, with its refusals for no buffer and for another state.
    fn step(
        &mut self,
        index: u32,
        none: HvStatus,
        other: HvStatus,
        from: fn(Model) -> bool,
        to: Model,
    ) -> Answer {
        let buffer = self.get(index).ok_or(none)?;
        if !from(*buffer) {
            return Err(other);
        }
        *buffer = to;
        Ok(())
    }

    fn in_use(&self) -> Option<usize> {
        let in_use = |buffer: &Model| matches!(buffer, Model::InUse(_));
        self.buffers.iter().position(in_use)
    }

    fn complete(&mut self, index: usize) {
        if let Model::InUse(entries) = self.buffers[index] {
            self.buffers[index] = Model::Complete(entries);
            self.completed.push(index);
        }
        self.report |= !self.circular && self.completed.len() >= self.threshold;
    }

    fn record(&mut self) {
        if !self.enabled {
            return;
        }
        if let Some(index) = self.in_use() {
            if let Model::InUse(entries) = &mut self.buffers[index]
                && *entries < self.capacity
            {
                *entries += 1;
                return;
            }
            self.complete(index);
        }
        let free = self
            .buffers
            .iter()
            .position(|buffer| *buffer == Model::Free);
        let next = match free {
            None if self.circular && !self.report && !self.completed.is_empty() => {
                Some(self.completed.remove(0))
            }
            free => free,
        };
        match next {
            Some(index) => {
                self.buffers[index] = Model::InUse(1);
                self.lost_in[index] = core::mem::take(&mut self.lost);
            }
            None => {
                self.lost += 1;
                self.report |= !self.completed.is_empty();
            }
        }
    }

    fn flush(&mut self, index: u32) -> Answer {
        match self.get(index).ok_or(HvStatus::INVALID_PARAMETER)? {
            Model::InUse(_) => {
                self.complete(index as usize);
                self.report = true;
            }
            Model::Complete(_) => self.report = true,
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self) -> Vec<u32> {
        if !core::mem::take(&mut self.report) {
            return Vec::new();
        }
        let list = core::mem::take(&mut self.completed);
        for &index in &list {
            if let Model::Complete(entries) = self.buffers[index] {
                self.buffers[index] = Model::Ready(entries);
            }
        }
        list.into_iter().map(|index| index as u32).collect()
    }

    fn apply(&mut self, root: &mut Root, action: &Action) {
        use HvStatus as S;
        match *action {
            Action::Create(index) => assert_eq!(root.create(LOCAL, index), self.create(index)),
            Action::Delete(index) => {
                let standby = |buffer| buffer == Model::Standby;
                let (none, other) = (S::INVALID_PARAMETER, S::OPERATION_DENIED);
                let expected = self.step(index, none, other, standby, Model::Absent);
                assert_eq!(root.delete(LOCAL, index), expected);
            }
            Action::Map(index) => {
                let standby = |buffer| buffer == Model::Standby;
                let (none, other) = (S::INVALID_PARAMETER, S::OPERATION_DENIED);
                let expected = self.step(index, none, other, standby, Model::Free);
                assert_eq!(root.map(LOCAL, index), expected);
            }
            Action::Unmap(index) => {
                let idle = |buffer| matches!(buffer, Model::Free | Model::Ready(_));
                let (none, other) = (S::INVALID_PARAMETER, S::ACCESS_DENIED);
                let expected = self.step(index, none, other, idle, Model::Standby);
                assert_eq!(root.unmap(LOCAL, index), expected);
            }
            Action::Release(index) => {
                let ready = |buffer| matches!(buffer, Model::Ready(_));
                let denied = S::OPERATION_DENIED;
                let expected = self.step(index, denied, denied, ready, Model::Free);
                assert_eq!(root.release(LOCAL, index), expected);
            }
            Action::Flush(index) => assert_eq!(root.flush(LOCAL, index), self.flush(index)),
            Action::Sources(enabled) => {
                let sources = if enabled { HvTraceGroups::HC.0 } else { 0 };
                root.sources(LOCAL, sources).unwrap();
                self.enabled = enabled;
            }
            Action::Record(count) => {
                for number in 0..count {
                    root.record(hypercall(number.into()));
                    self.record();
                }
            }
            Action::Message => {
                let list = root.message().map(|(_, first)| root.list(LOCAL, first));
                assert_eq!(list.unwrap_or_default(), self.message());
            }
            Action::Busy => {
                let log = &root.machine.event_log;
                assert!(!log.post_message(&root.machine, |_, _| false));
            }
        }
    }

    /// The root sees in its pages what the model says.
    fn check(&self, root: &Root) {
        assert_eq!(root.machine.event_log.pending(), self.report);
        let mapped = |buffer: &Model| !matches!(buffer, Model::Absent | Model::Standby);
        let count = self.buffers.iter().filter(|buffer| mapped(buffer)).count();
        assert_eq!(root.mapped.len(), count);
        for (index, buffer) in self.buffers.iter().enumerate() {
            let (state, entries) = match *buffer {
                Model::Absent | Model::Standby => continue,
                Model::Free => (HvEventLogBufferState::FREE, None),
                Model::InUse(entries) => (HvEventLogBufferState::IN_USE, Some(entries)),
                Model::Complete(entries) => (HvEventLogBufferState::COMPLETE, Some(entries)),
                Model::Ready(entries) => (HvEventLogBufferState::READY, Some(entries)),
            };
            let header = root.header(LOCAL, index as u32);
            assert_eq!(header.buffer_state, state, "{index}");
            assert_eq!(header.buffer_index.0, index as u32);
            if let Some(entries) = entries {
                assert_eq!(header.next_buffer_offset, 72 + entries * ENTRY, "{index}");
                assert_eq!(header.events_lost, self.lost_in[index], "{index}");
                assert_eq!(root.entries(LOCAL, index as u32).len(), entries as usize);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_calls_and_events_does_what_the_documentation_says(
        actions in prop::collection::vec(action(), 1..60),
        threshold in 1..=BUFFERS as u32,
        circular in any::<bool>(),
        pages in 1..=2u32,
    ) {
        let mut root = Root::new(40);
        let before = root.counts();
        let mut input = HvInputInitializeEventLogBufferGroup {
            maximum_buffer_count: BUFFERS as u32,
            buffer_size_in_bytes: pages * 4096,
            threshold,
            ..geometry(LOCAL)
        };
        if circular {
            input.init.set_mode(HvEventLogMode::CIRCULAR);
        }
        root.initialize(input).unwrap();
        let mut model = Log {
            buffers: [Model::Absent; BUFFERS],
            completed: Vec::new(),
            lost: 0,
            lost_in: [0; BUFFERS],
            report: false,
            enabled: false,
            threshold: threshold as usize,
            circular,
            capacity: (pages * 4096 - 72) / ENTRY,
        };
        for action in &actions {
            model.apply(&mut root, action);
            model.check(&root);
        }
        root.close(LOCAL);
        prop_assert_eq!(root.counts(), before);
    }
}
