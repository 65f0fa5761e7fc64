// Package web is what phones and programs meet: the rider's pages and the JSON
// API of the backend.
//
// It knows HTTP, sessions, languages and the words of swap.View. It gives one
// http.Handler. It needs the Books (what a scan becomes, what a swap looks like
// now), a SignIn that proves who a rider is, and nothing else: no SQL, no MQTT.
//
// # Why
//
// A page that works in every in-app browser over a bad network is a form and a
// redirect. The script of this package only makes the wait shorter: it learns
// from the event stream that something changed and fetches the same words that
// the page without it would have shown after a refresh. So there is one text for
// everything, and it is made on the server.
package web
