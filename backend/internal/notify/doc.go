// Package notify tells people outside of the system what cannot wait until
// somebody looks.
//
// It knows how a notice is put into a message and signed. It gives Notifier and
// its kinds: Log, which writes it to the log, and Webhook, which posts it to a
// gateway of the operator's. It needs the address and a secret. It keeps nothing
// and repeats nothing: whoever calls it does.
package notify
