package staff

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"golang.org/x/crypto/argon2"
)

// Cost of a password's hash: OWASP's least for argon2id. A sign-in of a staff
// member may cost 20 ms; a backend does few at a time.
const (
	hashTime    = 2
	hashMemory  = 19 << 10 // KiB
	hashThreads = 1
	hashLength  = 32
	saltLength  = 16
	hashPrefix  = "$argon2id$v=19$m=19456,t=2,p=1$"
)

// HashPassword hashes a new password, or says what is wrong with it.
func HashPassword(password string) (string, error) {
	if n := utf8.RuneCountInString(password); n < minPassword || n > maxPassword || len(password) > 4*maxPassword {
		return "", Mistakef("password: %d characters, want %d to %d", n, minPassword, maxPassword)
	}
	salt := make([]byte, saltLength)
	rand.Read(salt) // never fails
	return hashPrefix + encode(salt) + "$" + encode(hash(password, salt)), nil
}

func hash(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashThreads, hashLength)
}

func encode(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// checkPassword takes as long for an account that does not exist.
func checkPassword(hashed, password string) bool {
	salt, want := make([]byte, saltLength), []byte(nil)
	if rest, ok := strings.CutPrefix(hashed, hashPrefix); ok {
		s, h, _ := strings.Cut(rest, "$")
		salt, _ = base64.RawStdEncoding.DecodeString(s) // a hash that cannot be read fits nothing
		want, _ = base64.RawStdEncoding.DecodeString(h)
	}
	if len(password) > 4*maxPassword {
		password = ""
	}
	return subtle.ConstantTimeCompare(hash(password, salt), want) == 1
}

// Period is how long one code holds; one before and one after are taken too.
const Period = 30 * time.Second

// secretLength is what RFC 4226 recommends, in bytes.
const secretLength = 20

// NewSecret makes the secret of an authenticator app, in base32.
func NewSecret() string {
	b := make([]byte, secretLength)
	rand.Read(b) // never fails
	return base32.StdEncoding.EncodeToString(b)
}

// SecretURL is what an authenticator app reads from a QR code.
func SecretURL(login, secret string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/Battery swap:" + login}
	u.RawQuery = url.Values{"secret": {secret}, "issuer": {"Battery swap"}}.Encode()
	return u.String()
}

// Code is the code of a secret at a time: what the app shows.
func Code(secret string, at time.Time) (string, error) {
	code, err := hotp.GenerateCode(secret, uint64(step(at)))
	if err != nil {
		return "", fmt.Errorf("code: %w", err)
	}
	return code, nil
}

func step(at time.Time) int64 { return at.Unix() / int64(Period.Seconds()) }

// Secrets are what an account proves itself by. The zero value is nobody's, and
// fits nothing.
type Secrets struct {
	Login        string
	PasswordHash string
	Secret       string
	Step         int64 // of the last code that was used
}

// Proof is what proved it: a code's step, or a recovery code. Either is used up
// by it.
type Proof struct {
	Step     int64
	Recovery []byte // hash
}

// ErrWrong does not say what of name, password and code is wrong.
var ErrWrong = errors.New("name, password or code is wrong")

// SignIn checks password and code. A recovery code is only looked at by whoever
// holds its hash: it is returned as it came.
func (s Secrets) SignIn(password, code string, now time.Time) (Proof, error) {
	right := checkPassword(s.PasswordHash, password)
	proof, err := s.Confirm(code, now)
	if !right || err != nil {
		return Proof{}, ErrWrong
	}
	return proof, nil
}

// HasPassword checks the password alone, in an open session.
func (s Secrets) HasPassword(password string) bool { return checkPassword(s.PasswordHash, password) }

// Confirm checks a code alone, in an open session.
func (s Secrets) Confirm(code string, now time.Time) (Proof, error) {
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	if len(code) == recoveryCodeLen && s.Secret != "" {
		return Proof{Recovery: HashRecovery(code)}, nil
	}
	for _, n := range []int64{step(now) - 1, step(now), step(now) + 1} {
		ok, err := hotp.ValidateCustom(code, uint64(n), s.Secret, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && ok && s.Secret != "" && n > s.Step {
			return Proof{Step: n}, nil
		}
	}
	return Proof{}, ErrWrong
}

// NewRecoveryCodes makes codes for who has lost the authenticator app: each
// works once.
func NewRecoveryCodes() []string {
	out := make([]string, RecoveryCodes)
	for i := range out {
		out[i] = rand.Text()[:recoveryCodeLen]
	}
	return out
}

// ShowRecovery writes a recovery code in groups of four.
func ShowRecovery(code string) string {
	var groups []string
	for ; len(code) > 4; code = code[4:] {
		groups = append(groups, code[:4])
	}
	return strings.Join(append(groups, code), "-")
}

// HashRecovery is what is kept of a recovery code. It has 80 random bits: no slow
// hash is needed.
func HashRecovery(code string) []byte {
	sum := sha256.Sum256([]byte("recovery\x00" + code))
	return sum[:]
}

// TokenPrefix starts the token of a machine.
const TokenPrefix = "swst_"

// NewToken makes a machine's token.
func NewToken() string { return TokenPrefix + rand.Text() + rand.Text() }

// HashToken is what is kept of a token.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
