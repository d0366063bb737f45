package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/state"
)

// Kinds of accounts.
const (
	User  = "users"
	Token = "tokens"
)

// Account is a user or a token, without its secret.
type Account struct {
	Kind    string      `json:"kind"` // users, tokens
	Name    string      `json:"name"`
	Scope   Scope       `json:"scope"`
	Created alerts.Time `json:"created"` // wall clock
	secret  string      // users: argon2id; tokens: SHA-256, enough for 256 random bits
}

// Secret is an account with its password or token, which is shown once and not kept.
type Secret struct {
	Account
	Secret string `json:"secret"`
}

// Errors of accounts.
var (
	ErrNoAccount = errors.New("no such user or token")
	errTaken     = errors.New("the name is taken")
	errMany      = errors.New("there are 1000 users and tokens already")
)

const maxAccounts = 1000

var accountName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

var accountSchema = []string{`
CREATE TABLE account (
	kind    TEXT NOT NULL,    -- users, tokens
	name    TEXT NOT NULL,
	scope   INTEGER NOT NULL, -- 1 read, 2 triage, 3 admin
	created INTEGER NOT NULL, -- wall clock, ns
	secret  TEXT NOT NULL,
	PRIMARY KEY (kind, name)
) WITHOUT ROWID;`}

// Access knows who may log in, kept in the state file. It is safe for concurrent use.
type Access struct {
	db *state.DB // nil: nothing can be changed

	mu       sync.Mutex // protects accounts; held over a write, so that file and memory agree
	accounts map[string]Account
}

// OpenAccess makes its tables if needed and loads what they hold.
func OpenAccess(db *state.DB) (*Access, error) {
	if err := db.Migrate("console", accountSchema...); err != nil {
		return nil, err
	}
	return readAccess(db, db)
}

// ReadAccess loads what a file opened for reading holds.
func ReadAccess(db *state.DB) (*Access, error) {
	var n int
	if err := db.Read().QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'account'").Scan(&n); err != nil {
		return nil, fmt.Errorf("look for users: %w", err)
	}
	if n == 0 {
		return &Access{accounts: map[string]Account{}}, nil
	}
	return readAccess(db, nil)
}

func readAccess(from, to *state.DB) (*Access, error) {
	a := &Access{db: to, accounts: map[string]Account{}}
	rows, err := from.Read().Query("SELECT kind, name, scope, created, secret FROM account")
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Account
		if err := rows.Scan(&v.Kind, &v.Name, &v.Scope, &v.Created, &v.secret); err != nil {
			return nil, fmt.Errorf("read users: %w", err)
		}
		if v.Scope < Read || v.Scope > Admin {
			return nil, fmt.Errorf("read users: %s has the unknown scope %d", v.Name, v.Scope)
		}
		a.accounts[v.key()] = v
	}
	return a, rows.Err()
}

func (v *Account) key() string { return v.Kind + "/" + v.Name }

// List gives all accounts, users first, by name.
func (a *Access) List() []Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Collect(maps.Values(a.accounts))
	slices.SortFunc(out, func(x, y Account) int {
		return cmp.Or(-strings.Compare(x.Kind, y.Kind), strings.Compare(x.Name, y.Name))
	})
	return out
}

// Add makes a user with a random password, or a random token.
func (a *Access) Add(ctx context.Context, kind, name string, scope Scope) (Secret, error) {
	if kind != User && kind != Token {
		return Secret{}, fmt.Errorf("kind %q is none of %s, %s", kind, User, Token)
	}
	if !accountName.MatchString(name) {
		return Secret{}, fmt.Errorf("name %q: wanted are 1 to 64 letters, digits and . _ @ -, the first of them a letter or digit", name)
	}
	if scope < Read || scope > Admin {
		return Secret{}, errors.New("scope: wanted is read, triage or admin")
	}
	v := Account{Kind: kind, Name: name, Scope: scope, Created: alerts.Wall(time.Now())}
	secret := "ww_" + rand.Text() + rand.Text() // 2 × 130 bits
	v.secret = tokenHash(secret)
	if kind == User {
		secret = rand.Text() // 130 bits
		v.secret = passwordHash(secret)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.accounts[v.key()]; taken {
		return Secret{}, fmt.Errorf("%s: %w", name, errTaken)
	}
	if len(a.accounts) >= maxAccounts {
		return Secret{}, errMany
	}
	err := a.write(ctx, "INSERT INTO account (kind, name, scope, created, secret) VALUES (?, ?, ?, ?, ?)", v.Kind, v.Name, v.Scope, v.Created, v.secret)
	if err != nil {
		return Secret{}, err
	}
	a.accounts[v.key()] = v
	return Secret{v, secret}, nil
}

// Password gives a user another random one.
func (a *Access) Password(ctx context.Context, name string) (Secret, error) {
	secret := rand.Text()
	hash := passwordHash(secret)
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.accounts[User+"/"+name]
	if !ok {
		return Secret{}, fmt.Errorf("%s: %w", name, ErrNoAccount)
	}
	v.secret = hash
	if err := a.write(ctx, "UPDATE account SET secret = ? WHERE kind = ? AND name = ?", hash, User, name); err != nil {
		return Secret{}, err
	}
	a.accounts[v.key()] = v
	return Secret{v, secret}, nil
}

// Remove takes an account away; it holds from the next request on.
func (a *Access) Remove(ctx context.Context, kind, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.accounts[kind+"/"+name]; !ok {
		return fmt.Errorf("%s %s: %w", kind, name, ErrNoAccount)
	}
	if err := a.write(ctx, "DELETE FROM account WHERE kind = ? AND name = ?", kind, name); err != nil {
		return err
	}
	delete(a.accounts, kind+"/"+name)
	return nil
}

func (a *Access) write(ctx context.Context, statement string, args ...any) error {
	if a.db == nil {
		return state.ErrClosed
	}
	err := a.db.Write(ctx, func(tx *sql.Tx) error { _, err := tx.Exec(statement, args...); return err })
	if err != nil {
		return fmt.Errorf("keep users: %w", err)
	}
	return nil
}

func (a *Access) user(name string) (Account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.accounts[User+"/"+name]
	return v, ok
}

// users says whether anybody can log in.
func (a *Access) users() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.accounts {
		if v.Kind == User {
			return true
		}
	}
	return false
}

// byToken compares hashes, so that the time it takes tells nothing about the token.
func (a *Access) byToken(token string) (Account, bool) {
	hash := tokenHash(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.accounts {
		if v.Kind == Token && subtle.ConstantTimeCompare([]byte(v.secret), []byte(hash)) == 1 {
			return v, true
		}
	}
	return Account{}, false
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// The cost of argon2id is OWASP's least for a server (19 MiB, two passes, one lane): a login must not starve detection.
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
const (
	argonKiB    = 19 << 10
	argonPasses = 2
	argonLanes  = 1
	argonBytes  = 32
	argonPrefix = "$argon2id$v=19$m=19456,t=2,p=1$"
)

// passwordHash is the string form of the reference implementation: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func passwordHash(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return argonPrefix + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(argon(password, salt))
}

func argon(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, argonPasses, argonKiB, argonLanes, argonBytes)
}

// passwordMatches takes the same time for a user who does not exist, whose hash is "".
func passwordMatches(hash, password string) bool {
	rest, known := strings.CutPrefix(hash, argonPrefix)
	salt64, sum64, cut := strings.Cut(rest, "$")
	salt, err1 := base64.RawStdEncoding.DecodeString(salt64)
	sum, err2 := base64.RawStdEncoding.DecodeString(sum64)
	got := argon(password, salt)
	return known && cut && err1 == nil && err2 == nil && subtle.ConstantTimeCompare(got, sum) == 1
}
