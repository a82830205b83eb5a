//! What is wanted of the catalog, as the statements that browse it are told.

use crochet_shared::id::{CategoryId, ProfileId};

use crate::catalog::search::Meaning;

/// What of the catalog is wanted. `None` does not narrow.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Filter {
    pub(in crate::catalog) seller: Option<ProfileId>,
    pub(in crate::catalog) category: Option<CategoryId>,
    pub(in crate::catalog) delivery_type: Option<&'static str>,
    /// Lowest price in micro-dollars, inclusive. Above 0 it leaves out what is free.
    pub(in crate::catalog) min_price: Option<i64>,
    /// Highest price in micro-dollars, inclusive.
    pub(in crate::catalog) max_price: Option<i64>,
    /// What is searched for, the rarest first: all of it must be there.
    pub(in crate::catalog) words: Vec<Meaning>,
}

impl Filter {
    /// Whether anything but the words narrows.
    pub(in crate::catalog) fn narrows(&self) -> bool {
        self.seller.is_some()
            || self.category.is_some()
            || self.delivery_type.is_some()
            || self.min_price.is_some()
            || self.max_price.is_some()
    }

    /// Whether words decide, and nothing else: of such a search it can be known that the same listings match.
    pub(super) fn is_words_alone(&self) -> bool {
        !self.words.is_empty() && !self.narrows()
    }

    /// Of the words one of which a listing has by this place, counted from the rarest: it has the mark of one.
    pub(super) fn marks(&self, place: usize) -> Option<&[String]> {
        Some(self.words.get(place)?.words.as_slice())
    }

    /// Of each word which change of its listings was the last: while these numbers are the same, the same listings
    /// match. `None` when more than the words decides.
    pub(in crate::catalog) fn changes(&self) -> Option<Vec<i64>> {
        let changes = || self.words.iter().flat_map(|meaning| &meaning.changes);
        self.is_words_alone().then(|| changes().copied().collect())
    }

    /// Whether no listing can pass.
    pub(in crate::catalog) fn is_empty(&self) -> bool {
        matches!((self.min_price, self.max_price), (Some(min), Some(max)) if min > max)
    }

    /// The same text for the same wishes.
    pub(in crate::catalog) fn name(&self) -> String {
        let range = (self.min_price, self.max_price);
        let words = (self.rarest(), self.beside_rarest());
        format!("{:?} {:?} {range:?} {words:?}", self.seller, self.category)
            + self.delivery_type.unwrap_or_default()
    }

    /// The rarest of the words as a `tsquery`.
    pub(super) fn rarest(&self) -> Option<String> {
        self.words.first().map(Meaning::query)
    }

    /// The other words as a `tsquery`, with what a listing is found by beside them (`search_words`).
    ///
    /// It is a condition of its own: Postgres is quicker with two simple ones than with one of both.
    pub(super) fn beside_rarest(&self) -> Option<String> {
        let mut parts: Vec<String> = self.words.iter().skip(1).map(Meaning::query).collect();
        if let Some(id) = self.seller {
            parts.push(format!("'/s/{id}'"));
        }
        if let Some(id) = self.category {
            parts.push(format!("'/c/{id}'"));
        }
        if let Some(name) = self.delivery_type {
            parts.push(format!("'/d/{name}'"));
        }
        match (self.min_price, self.max_price) {
            (_, Some(0)) => parts.push("'/p/free'".to_owned()),
            (Some(min), _) if min > 0 => parts.push("'/p/per_call'".to_owned()),
            _ => {}
        }
        Some(parts.join(" & ")).filter(|query| !query.is_empty())
    }
}

#[cfg(test)]
pub(in crate::catalog) mod tests {
    use super::*;

    pub(in crate::catalog) fn meaning(words: &[&str], listings: i64) -> Meaning {
        Meaning {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            listings,
            changes: vec![1; words.len()],
        }
    }

    #[test]
    fn all_but_the_rarest_word_is_said_beside_it() {
        let mut filter = Filter {
            delivery_type: Some("api"),
            min_price: Some(1),
            ..Filter::default()
        };
        assert_eq!(filter.rarest(), None);
        filter.words = vec![meaning(&["a", "b"], 1), meaning(&["c"], 1)];
        assert_eq!(filter.rarest().as_deref(), Some("( 'a' | 'b' )"));
        assert_eq!(
            filter.beside_rarest().as_deref(),
            Some("( 'c' ) & '/d/api' & '/p/per_call'")
        );
        filter.words.truncate(1);
        (filter.min_price, filter.max_price) = (None, Some(0));
        assert_eq!(
            filter.beside_rarest().as_deref(),
            Some("'/d/api' & '/p/free'")
        );
        (filter.delivery_type, filter.max_price) = (None, Some(5));
        assert_eq!(filter.beside_rarest(), None);
    }

    #[test]
    fn it_is_known_when_the_listings_of_a_word_changed() {
        let changes = |words: Vec<Meaning>, max_price| {
            let filter = Filter {
                max_price,
                words,
                ..Filter::default()
            };
            filter.changes()
        };
        let mut words = vec![meaning(&["a"], 5), meaning(&["b", "c"], 5)];
        words[1].changes = vec![2, 3];
        assert_eq!(changes(words.clone(), None), Some(vec![1, 2, 3]));
        assert_eq!(changes(words, Some(1)), None);
        assert_eq!(changes(Vec::new(), None), None);
    }
}
