// Package notify tells people outside of the system what cannot wait until
// somebody looks, and sends riders the codes that bind their phones.
//
// It knows how a notice or a code is put into a message and signed. It gives
// Notifier and CodeSender and their kinds: Log, which writes to the log, and
// Webhook, which posts to a gateway of the operator's or of the union's. It needs
// the address and a secret. It keeps nothing and repeats nothing: whoever calls it
// does.
package notify
