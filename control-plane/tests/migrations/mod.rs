//! Migrations only add: the version before goes on serving on the schema of this one (`deploy/PREVIOUS`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

mod statements;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use statements::{actions, statements};

/// What takes away or changes, and why the version before does not mind: the migration's number, how the
/// statement begins, the reason.
const ALLOWED: [(u32, &str, &str); 13] = [
    (
        14,
        "drop index listing_stats_newest",
        "an index is speed alone, and others of the same names take their places",
    ),
    (
        14,
        "update listing_stats s set marks",
        "it fills a column that the version before does not know",
    ),
    (14, "create or replace function listing_is_new()", FOLLOWS),
    (14, "create or replace function listing_is_other()", FOLLOWS),
    (14, "create or replace function listing_is_gone()", FOLLOWS),
    (14, "create trigger listing_stats_are_other", FOLLOWS),
    (
        17,
        "alter function ensure_answer_partition",
        "it gives up where it would have waited, and is called again",
    ),
    (
        18,
        "alter table provider_success alter column evidenced set default",
        "the column is new, and who does not know it leaves it to its default",
    ),
    (
        18,
        "update provider_success set evidenced",
        "it fills a column that the version before does not know",
    ),
    (
        19,
        "select count_ledger_anew()",
        "it fills tables that the version before does not know",
    ),
    (
        22,
        "alter table gateway_request set (fillfactor",
        "how full pages are made is nobody's business but the pages'",
    ),
    (
        24,
        "update ledger_fold f set home",
        "it fills a table that the version before does not know",
    ),
    (
        27,
        "create or replace function listing_is_other()",
        "it does what was done, and writes a row that the version before counts the same",
    ),
];
const FOLLOWS: &str =
    "it does what was done, and fills tables that the version before does not know";

/// Tables and functions that the version before does not know.
#[derive(Default)]
struct Made(BTreeSet<String>);

impl Made {
    fn knows(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn add(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }
}

/// The word after these, as a name without its arguments.
fn name_after<'a>(statement: &'a str, words: &str) -> Option<&'a str> {
    let (_, rest) = statement.split_once(words)?;
    let rest = rest.trim_start_matches("if not exists ");
    rest.split([' ', '('])
        .next()
        .filter(|name| !name.is_empty())
}

/// Why the version before could mind this statement; `made` learns what the statement makes.
fn objection(statement: &str, made: &mut Made) -> Option<&'static str> {
    let is = |begin: &str| statement.starts_with(begin);
    let on_new = |words: &str, made: &Made| {
        name_after(statement, words).is_some_and(|name| made.knows(name))
    };
    if is("create table ") {
        made.add(name_after(statement, "create table ").unwrap_or_default());
        return None;
    }
    if is("create function ") {
        made.add(name_after(statement, "create function ").unwrap_or_default());
        return None;
    }
    if is("create or replace function ") {
        let is_new = on_new("create or replace function ", made);
        return (!is_new).then_some("it changes a function that is called");
    }
    if is("create unique index ") {
        return (!on_new(" on ", made)).then_some("it may refuse what is written");
    }
    if is("create trigger ") || is("insert into ") {
        let words = if is("insert into ") {
            "insert into "
        } else {
            " on "
        };
        return (!on_new(words, made)).then_some("it changes what is written or read");
    }
    if is("revoke ") || is("grant ") {
        return (!on_new(" on ", made)).then_some("it changes who may do what");
    }
    if is("alter table ") {
        let is_new = on_new("alter table ", made);
        return (!is_new && !only_adds(statement)).then_some("it changes a table that is used");
    }
    let adds = [
        "create index ",
        "create type ",
        "create sequence ",
        "create view ",
        "create extension ",
        "comment on ",
    ];
    (!adds.iter().any(|begin| is(begin))).then_some("it takes away, or changes what is there")
}

/// Whether every action adds a column that who does not know it may leave out.
fn only_adds(statement: &str) -> bool {
    actions(statement).iter().all(|action| {
        let may_be_left_out = !action.contains(" not null")
            || action.contains(" default ")
            || action.contains(" generated ");
        action.starts_with("add column ") && may_be_left_out
    })
}

/// Number and text of each migration after that one, in order.
fn after(last: u32) -> Vec<(u32, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut found: Vec<(u32, String)> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?;
            let number: u32 = name.split('_').next()?.parse().ok()?;
            (number > last).then(|| (number, fs::read_to_string(&path).unwrap()))
        })
        .collect();
    found.sort();
    found
}

fn previous() -> u32 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/PREVIOUS");
    let text = fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("migration "));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn every_migration_since_the_version_before_only_adds() {
    let mut made = Made::default();
    let (mut objections, mut used) = (Vec::new(), BTreeSet::new());
    for (number, text) in after(previous()) {
        for statement in statements(&text) {
            let Some(why) = objection(&statement, &mut made) else {
                continue;
            };
            let allowed = ALLOWED
                .iter()
                .position(|(of, begin, _)| *of == number && statement.starts_with(begin));
            match allowed {
                Some(place) => drop(used.insert(place)),
                None => objections.push(format!("{number:04}: {why}: {statement}")),
            }
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    assert_eq!(used.len(), ALLOWED.len(), "of no use any more: {ALLOWED:?}");
}

#[test]
fn what_the_version_before_could_mind_is_objected_to() {
    let object = |sql: &str| {
        let mut made = Made::default();
        statements(sql)
            .iter()
            .any(|statement| objection(statement, &mut made).is_some())
    };
    for sql in [
        "drop table listing;",
        "alter table listing drop column words;",
        "alter table listing add column a text, drop column words;",
        "alter table listing add column a text not null;",
        "alter table listing rename column a to b;",
        "alter table listing alter column a set not null;",
        "alter table listing add constraint a check (b > 0);",
        "create unique index a on listing (b);",
        "create trigger a before update on listing for each row execute function f();",
        "create or replace function f() returns int language sql as $$ select 1; $$;",
        "update listing set a = 1;",
        "insert into category (name) values ('a; b');",
        "revoke update on listing from public;",
        "do $$ begin drop table listing; end $$;",
    ] {
        assert!(object(sql), "{sql}");
    }
    for sql in [
        "-- drop table listing;\ncreate table a (b int not null, c text default 'x; y');
         create unique index d on a (b); insert into a values (1); revoke update on a from public;
         alter table a add constraint e check (b > 0);",
        "create function f() returns int language plpgsql as $$ begin drop table a; end $$;",
        "Alter Table listing Add Column a text constraint b check (a in ('x', 'y')),
             add column c boolean not null default false;",
        "create index a on listing (b) where c; comment on column listing.b is 'it''s; here';",
    ] {
        assert!(!object(sql), "{sql}");
    }
}
