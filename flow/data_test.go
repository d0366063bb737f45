package flow

import (
	"os"
	"path/filepath"
	"testing"
)

// dataDir is the data pack, which lies beside the repository; it is the one thing that tests may lack.
func dataDir(t *testing.T) string {
	dir := os.Getenv("WHARFWATCH_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no data pack at %s: set WHARFWATCH_DATA", dir)
	}
	return dir
}
