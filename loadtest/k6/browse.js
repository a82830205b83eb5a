// People and programs look around: lists in every order, searches with and without typos, cursors, a listing,
// its reviews, its seller.

import { look } from './client/catalog.js';
import { turn } from './client/stage.js';
import { asked, options as made, steady } from './run/load.js';
import { summary } from './run/summary.js';

export const options = made('browse', {
  browse: steady('default', { ...asked({ rate: 100, seconds: 30 }), each: 0.5 }),
});

export default function () {
  look(turn());
}

export const handleSummary = summary('browse');
