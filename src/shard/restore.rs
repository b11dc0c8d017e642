//! What came back from the files: put there without being counted as something that happens now.

use super::{Found, Locked, Refused, cost, key_of};
use crate::clock::Tick;
use crate::error::Reason;
use crate::life::Life;
use crate::reclaim::Pinned;
use crate::record::{Draft, Kind, NODE_NONE};
use crate::table::Fresh;
use crate::timeouts::TimeoutsIndex;
use crate::token::SessionId;
use crate::wheel::NodeIndex;

impl<'a> Locked<'a> {
    /// Makes room for entries that are about to come back. False without memory.
    pub(crate) fn expect(&mut self, entries: usize) -> bool {
        self.state.writer.expect(&self.common.table, entries)
    }

    /// Adds a session that nobody has yet.
    pub(crate) fn restore(&mut self, pinned: Pinned<'_>, fresh: Fresh<'a>) -> Result<(), Refused> {
        self.insert(pinned, fresh, &mut |_| ())?;
        self.uncount_created();
        Ok(())
    }

    /// Ends a session that ended before this process began.
    pub(crate) fn restore_end(&mut self, found: Found<'_>, reason: Reason, now: Tick) {
        // Nobody watches it yet.
        self.end(found, reason, now, &mut |_| ());
        self.state.tally.ended[usize::from(reason.code())] -= 1;
    }

    /// Makes an alias of a session that was renewed.
    pub(crate) fn restore_renewed(
        &mut self,
        found: Found<'_>,
        successor: SessionId,
        until: Tick,
    ) -> Result<(), Refused> {
        let room = (super::class(found.record), cost(found.record.len()));
        self.alias(found, successor, until)?;
        self.common.budget.release(room.0, room.1);
        self.state.tally.renewed -= 1;
        Ok(())
    }

    /// Takes an alias out, if that is what stands for this id.
    pub(crate) fn forget_alias(&mut self, pinned: Pinned<'_>, id: SessionId) {
        let table = &self.common.table;
        let Some((spot, record)) = self.state.writer.find(table, pinned, id) else { return };
        if let Kind::Alias { .. } = record.kind() {
            if record.node() != NODE_NONE {
                self.state.wheel.remove(NodeIndex(record.node()));
            }
            self.state.writer.remove(table, id, spot);
        }
    }

    /// Adds an alias whose session went on long ago. Whatever stands there already stays.
    pub(crate) fn restore_alias(
        &mut self,
        pinned: Pinned<'_>,
        id: SessionId,
        successor: SessionId,
        until: Tick,
    ) -> Result<(), Refused> {
        let table = &self.common.table;
        if self.state.writer.find(table, pinned, id).is_some() {
            return Ok(());
        }
        let node = self.state.wheel.insert(key_of(id), until).ok_or(Refused::Memory)?;
        let alias = Draft {
            id,
            kind: Kind::Alias { successor },
            life: Life::DEAD,
            absolute: until,
            version: 0,
            node: node.0,
            timeouts: TimeoutsIndex::EXPLICIT,
            data: &[],
            trailer: None,
        };
        let placed = match table.fresh(&alias) {
            Ok(fresh) => self.state.writer.insert(table, fresh).is_ok(),
            Err(_) => false,
        };
        if !placed {
            self.state.wheel.remove(node);
            return Err(Refused::Memory);
        }
        self.wake_at(until);
        Ok(())
    }
}
