// Package pilot lives through a street's pilot once more, at high speed: 38 days,
// 2,425 counted swaps, 64 a day, with meal times, batteries that are not taken,
// cabinets without a network and without a clock. The scans, the grants and the
// books are the real backend's; the cabinets tell, signed, what happened on those
// days. In the end every source must give the same number.
//
// It knows how the backend is started and what a cabinet's journal says of a swap.
// It gives Run. It needs the backend's program and PostgreSQL's.
package pilot
