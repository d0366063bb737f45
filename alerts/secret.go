package alerts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const maxSecret = 16 << 10

// secret gives the value itself or the content of its file, without white space around it. A file name without a slash is looked for
// in $CREDENTIALS_DIRECTORY first (systemd LoadCredential).
func secret(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && !strings.ContainsRune(file, filepath.Separator) {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			file = filepath.Join(dir, file)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" || len(b) > maxSecret {
		return "", fmt.Errorf("secret file %s is empty or longer than %d bytes", file, maxSecret)
	}
	return s, nil
}

// oneOf reports a pair of keys of which exactly one must be given.
func oneOf(report func(key, message string), key, value, file string) {
	switch {
	case value == "" && file == "":
		report(key, "is missing: give "+key+" or "+key+"_file")
	case value != "" && file != "":
		report(key, "is given twice: give "+key+" or "+key+"_file")
	}
}
