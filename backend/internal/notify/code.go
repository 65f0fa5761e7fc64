package notify

import (
	"context"
	"time"

	"batteryswap/backend/internal/phone"
)

// Code is a code on its way to a rider's phone.
type Code struct {
	// MessageID is the same whenever the same code is sent: a gateway that knows it
	// already has nothing to do.
	MessageID string       `json:"message_id"`
	Kind      string       `json:"kind"` // KindCode
	Phone     phone.Number `json:"phone"`
	Code      string       `json:"code"`
	// Language is that of the page that asked for it: zh or en.
	Language  string    `json:"language"`
	ExpiresAt time.Time `json:"expires_at"`
	Try       int       `json:"try"` // 1 the first time
}

// KindCode tells a gateway which of its texts to send.
const KindCode = "binding_code"

// CodeSender sends codes to phones. Nil means that the gateway has it; after an
// error it may have it, too.
type CodeSender interface {
	SendCode(context.Context, Code) error
}

// SendCode implements CodeSender: whoever reads the log can sign in as anybody, so
// this is for demonstrations only. The number is masked even here.
func (l Log) SendCode(_ context.Context, c Code) error {
	l.Log.Info("code for a phone", "event", c.Kind, "phone", c.Phone.Mask(), "code", c.Code, "message_id", c.MessageID, "expires_at", c.ExpiresAt)
	return nil
}
