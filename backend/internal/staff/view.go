package staff

import "time"

// Account is a staff account as others see it.
type Account struct {
	Login         string     `json:"login"`
	Name          string     `json:"name"`
	Roles         []Role     `json:"roles"`
	AddedAt       time.Time  `json:"added_at"`
	Disabled      bool       `json:"disabled"`
	SeenAt        *time.Time `json:"seen_at,omitempty"`
	Sessions      int        `json:"sessions" doc:"Open ones"`
	RecoveryCodes int        `json:"recovery_codes" doc:"That are left"`
}

// Token is a machine's token as others see it.
type Token struct {
	Name      string    `json:"name"`
	Roles     []Role    `json:"roles"`
	AddedAt   time.Time `json:"added_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Ended     bool      `json:"ended" doc:"Revoked or expired"`
}
