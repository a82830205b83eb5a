//! Every request there is, by id, by age and by last change, kept in memory and in the journal.
//!
//! Invariants: a change is in the journal before anybody hears of it; every row is in exactly one
//! status' indexes; no look-up walks over rows it does not answer with.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};

use crate::{
    config::Config,
    journal::{Journal, Line},
    payment::{News, Payment, Plan, Setting, Status, Txs},
    quote::Quote,
    random,
};

/// A request's place in the order of creation.
pub(crate) type Row = u32;

/// A request as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What was quoted.
    pub(crate) quote: Arc<Quote>,
    /// What became of it.
    pub(crate) payment: Payment,
    /// How often its status was asked for since the start.
    pub(crate) status_calls: u64,
}

/// One thing to tell by webhook.
#[derive(Debug, Clone)]
pub(crate) struct Tiding {
    /// Which row it is about.
    pub(crate) row: Row,
    /// The request when it happened.
    pub(crate) request: Request,
    /// What happened.
    pub(crate) news: News,
    /// Nothing follows by itself.
    pub(crate) last: bool,
}

/// All rows and their indexes. Lives behind one lock.
#[derive(Debug)]
pub(crate) struct Store {
    rows: Vec<Request>,
    by_id: HashMap<[u8; 32], Row>,
    /// By (last change in milliseconds, row).
    by_update: BTreeSet<(u64, Row)>,
    by_status: [StatusIndex; Status::ALL.len()],
    /// (milliseconds, row) of what is due; an entry whose row has another due time is stale.
    due: BinaryHeap<Reverse<(u64, Row)>>,
    later: Plan,
    journal: Journal,
    step_ms: u64,
    refund_minimum: u64,
    webhooks: bool,
}

#[derive(Debug, Default)]
struct StatusIndex {
    by_update: BTreeSet<(u64, Row)>,
    by_age: BTreeSet<Row>,
}

impl Store {
    /// Opens the journal, if there is one, and rebuilds everything from it.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let mut store = Self {
            rows: Vec::new(),
            by_id: HashMap::new(),
            by_update: BTreeSet::new(),
            by_status: Default::default(),
            due: BinaryHeap::new(),
            later: Plan::default(),
            journal: Journal::none(),
            step_ms: config.step_ms,
            refund_minimum: config.refund_minimum,
            webhooks: config.webhook_url.is_some(),
        };
        if let Some(path) = &config.state {
            store.journal = Journal::open(path, &mut store, Self::replay, Self::rewrite)?;
            for row in 0..store.next_row()? {
                store.index(row);
            }
        }
        Ok(store)
    }

    fn replay(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Quote(quote, payment) => self.put(*quote, *payment).map(drop),
            Line::Payment(row, payment) => {
                self.row_mut(row)?.payment = *payment;
                Ok(())
            }
            Line::Heard(row) => {
                self.row_mut(row)?.payment.unheard = false;
                Ok(())
            }
            Line::Later(plan) => {
                self.later = *plan;
                Ok(())
            }
        }
    }

    fn rewrite(&self, write: &mut dyn FnMut(&Line) -> Result<()>) -> Result<()> {
        write(&Line::Later(Box::new(self.later.clone())))?;
        self.rows.iter().try_for_each(|request| {
            let quote = Quote::clone(&request.quote);
            write(&Line::Quote(
                Box::new(quote),
                Box::new(request.payment.clone()),
            ))
        })
    }

    fn next_row(&self) -> Result<Row> {
        Row::try_from(self.rows.len()).context("more rows than a sandbox is for")
    }

    fn row_mut(&mut self, row: Row) -> Result<&mut Request> {
        usize::try_from(row)
            .ok()
            .and_then(|row| self.rows.get_mut(row))
            .with_context(|| format!("no row {row}"))
    }

    /// A row by its place.
    pub(crate) fn row(&self, row: Row) -> Option<&Request> {
        self.rows.get(usize::try_from(row).ok()?)
    }

    /// How many rows there are.
    pub(crate) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many rows have this status.
    pub(crate) fn count(&self, status: Status) -> usize {
        self.status_index(status)
            .map_or(0, |index| index.by_age.len())
    }

    /// The row of a provider's request id.
    pub(crate) fn find(&self, id: &str) -> Option<Row> {
        self.by_id.get(&key(id)?).copied()
    }

    /// The request of a provider's request id, counting that its status was asked for.
    pub(crate) fn ask_status(&mut self, id: &str) -> Option<Request> {
        let row = self.find(id)?;
        let request = self.row_mut(row).ok()?;
        request.status_calls += 1;
        Some(request.clone())
    }

    /// Keeps a new quote; its plan is what was said for later ones.
    pub(crate) fn add(&mut self, quote: Quote) -> Result<()> {
        let payment = Payment::new(self.later.clone(), quote.created_at);
        let line = Line::Quote(Box::new(quote.clone()), Box::new(payment.clone()));
        self.journal.add(&line)?;
        self.journal.write()?;
        let row = self.put(quote, payment)?;
        self.index(row);
        Ok(())
    }

    fn put(&mut self, quote: Quote, payment: Payment) -> Result<Row> {
        let row = self.next_row()?;
        let id = key(&quote.id).context("a request id is 0x and 64 hex")?;
        self.by_id.insert(id, row);
        self.rows.push(Request {
            quote: Arc::new(quote),
            payment,
            status_calls: 0,
        });
        Ok(row)
    }

    /// What later quotes are planned to become.
    pub(crate) fn plan_later(&mut self, plan: Plan) -> Result<()> {
        self.journal.add(&Line::Later(Box::new(plan.clone())))?;
        self.later = plan;
        self.journal.write()
    }

    /// Changes one row. What happened is to be told only after [`Store::commit`].
    pub(crate) fn change(
        &mut self,
        row: Row,
        now: u64,
        act: impl FnOnce(&mut Payment, &Quote, &Setting<'_>) -> Vec<News>,
    ) -> Result<Vec<Tiding>> {
        let seed = random::bytes().map_err(|_| anyhow!("no randomness"))?;
        let (step_ms, refund_minimum, webhooks) =
            (self.step_ms, self.refund_minimum, self.webhooks);
        self.unindex(row);
        let request = self.row_mut(row)?;
        let quote = Arc::clone(&request.quote);
        let setting = Setting {
            now,
            step_ms,
            refund_minimum,
            txs: &Txs(seed),
        };
        let mut news = act(&mut request.payment, &quote, &setting);
        if request.payment.plan.step_ms.unwrap_or(step_ms) == 0 && news.len() > 1 {
            news.drain(..news.len() - 1);
        }
        if webhooks && !news.is_empty() {
            request.payment.unheard =
                request.payment.status.is_final() && request.payment.plan.webhook_copies != Some(0);
        }
        let request = request.clone();
        self.index(row);
        self.journal
            .add(&Line::Payment(row, Box::new(request.payment.clone())))?;
        let last = request.payment.due.is_none();
        Ok(news
            .into_iter()
            .map(|news| Tiding {
                row,
                request: request.clone(),
                news,
                last,
            })
            .collect())
    }

    /// Makes the changes so far survive the process.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.journal.write()
    }

    /// Moves on every row that is due. Committed when it returns.
    pub(crate) fn advance(&mut self, now: u64) -> Result<Vec<Tiding>> {
        let mut tidings = Vec::new();
        while let Some(&Reverse((at, row))) = self.due.peek() {
            if at > now {
                break;
            }
            self.due.pop();
            if self
                .row(row)
                .is_some_and(|request| request.payment.due == Some(at))
            {
                tidings.extend(self.change(row, now, Payment::advance)?);
            }
        }
        self.commit()?;
        Ok(tidings)
    }

    /// When the next row is due, in milliseconds since the epoch.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// The last webhook of a row was accepted, or given up.
    pub(crate) fn heard(&mut self, row: Row) -> Result<()> {
        if self.row(row).is_some_and(|request| request.payment.unheard) {
            self.row_mut(row)?.payment.unheard = false;
            self.journal.add(&Line::Heard(row))?;
            self.journal.write()?;
        }
        Ok(())
    }

    /// What was not heard of before the last stop.
    pub(crate) fn unheard(&self) -> Vec<Tiding> {
        (0..)
            .zip(&self.rows)
            .filter(|(_, request)| request.payment.unheard)
            .map(|(row, request)| Tiding {
                row,
                request: request.clone(),
                news: News {
                    status: request.payment.status,
                    fail_reason: request.payment.fail_reason.clone(),
                },
                last: true,
            })
            .collect()
    }

    /// Rows by last change within `from..=to` (milliseconds), of one status or all.
    pub(crate) fn by_update(
        &self,
        status: Option<Status>,
        from: (u64, Row),
        to: (u64, Row),
    ) -> impl DoubleEndedIterator<Item = Row> {
        let index = match status {
            None => Some(&self.by_update),
            Some(status) => self.status_index(status).map(|index| &index.by_update),
        };
        index
            .filter(|_| from <= to)
            .into_iter()
            .flat_map(move |index| index.range(from..=to))
            .map(|&(_, row)| row)
    }

    /// Rows by age within `from..=to`, of one status or all.
    pub(crate) fn by_age(
        &self,
        status: Option<Status>,
        from: Row,
        to: Row,
    ) -> Box<dyn DoubleEndedIterator<Item = Row> + '_> {
        let Some(status) = status else {
            return Box::new(
                from..to
                    .saturating_add(1)
                    .min(self.next_row().unwrap_or(Row::MAX)),
            );
        };
        match self.status_index(status) {
            Some(index) if from <= to => Box::new(index.by_age.range(from..=to).copied()),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The first row made at `ms` or later.
    pub(crate) fn first_made_since(&self, ms: u64) -> Row {
        let before = self
            .rows
            .partition_point(|request| request.quote.created_at < ms);
        Row::try_from(before).unwrap_or(Row::MAX)
    }

    fn status_index(&self, status: Status) -> Option<&StatusIndex> {
        Status::ALL
            .iter()
            .zip(&self.by_status)
            .find_map(|(one, index)| (*one == status).then_some(index))
    }

    fn status_index_mut(&mut self, status: Status) -> Option<&mut StatusIndex> {
        Status::ALL
            .iter()
            .zip(&mut self.by_status)
            .find_map(|(one, index)| (*one == status).then_some(index))
    }

    fn unindex(&mut self, row: Row) {
        let Some(payment) = self.row(row).map(|request| &request.payment) else {
            return;
        };
        let (status, at) = (payment.status, payment.updated_at);
        self.by_update.remove(&(at, row));
        if let Some(index) = self.status_index_mut(status) {
            index.by_update.remove(&(at, row));
            index.by_age.remove(&row);
        }
    }

    fn index(&mut self, row: Row) {
        let Some(payment) = self.row(row).map(|request| &request.payment) else {
            return;
        };
        let (status, at, due) = (payment.status, payment.updated_at, payment.due);
        self.by_update.insert((at, row));
        if let Some(index) = self.status_index_mut(status) {
            index.by_update.insert((at, row));
            index.by_age.insert(row);
        }
        if let Some(due) = due {
            self.due.push(Reverse((due, row)));
        }
    }
}

fn key(id: &str) -> Option<[u8; 32]> {
    let hex = id.strip_prefix("0x").filter(|hex| hex.len() == 64)?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}
