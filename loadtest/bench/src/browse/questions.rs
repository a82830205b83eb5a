//! What is asked: every filter and sort, searches of every kind, and pages near and far.

/// A query of `GET /listings`, and where in its list is read.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The query string without a cursor; also what the table calls it.
    pub(super) name: String,
    /// Pages that a cursor has gone beforehand; the pages behind it are measured.
    pub(super) cursor_pages: u32,
    /// Asked for the first time each time: what is remembered of it has just ceased to hold.
    pub(super) is_first: bool,
}

const SORTS: [&str; 5] = ["newest", "popular", "price_low", "price_high", "rating"];
/// Each with every sort.
const FILTERS: [&str; 8] = [
    "",
    "category=search",
    "delivery_type=file",
    "pricing_model=free",
    "min_price=0.05&max_price=0.06",
    "provider_id=0190b000-0000-7000-8000-000000000001",
    "category=search&delivery_type=api&pricing_model=per_call",
    "category=automation&delivery_type=file&max_price=1",
];
/// A common word, one in sixty listings, one in twenty thousand, two words, filters, typos, nothing.
const SEARCHES: [&str; 9] = [
    "q=weather",
    "q=weather+image",
    "q=kabeba",
    "q=judubo",
    "q=sensor+travel",
    "q=image&category=search",
    "q=wether",
    "q=wether+tranlsate",
    "q=nosuchword",
];

/// All of them, in the order of the table.
pub(super) fn all() -> Vec<Question> {
    let of = |name: String| Question {
        name,
        cursor_pages: 0,
        is_first: false,
    };
    let mut all = Vec::new();
    for filter in FILTERS {
        all.extend(SORTS.map(|sort| of(joined(filter, &format!("sort={sort}")))));
    }
    for search in SEARCHES {
        all.extend(
            ["newest", "popular", "price_low"]
                .map(|sort| of(joined(search, &format!("sort={sort}")))),
        );
    }
    for sort in SORTS {
        all.push(of(format!("sort={sort}&page=40")));
        all.push(Question {
            name: format!("sort={sort}&cursor=…"),
            cursor_pages: 30,
            is_first: false,
        });
    }
    for search in ["q=sensor+travel", "q=judubo"] {
        all.push(Question {
            is_first: true,
            ..of(format!("{search}&sort=newest"))
        });
    }
    all
}

fn joined(left: &str, right: &str) -> String {
    if left.is_empty() {
        right.to_owned()
    } else {
        format!("{left}&{right}")
    }
}
