package baseline

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

func (c *circle) toBloom(dest uint64) {
	if c.inBloom(dest) {
		return
	}
	if c.bloom == nil || c.inside >= bloomFull {
		c.bloom, c.inside = make([]byte, bloomBytes), 0
	}
	c.inside++
	for i := range uint64(bloomHashes) {
		bit := bloomBit(dest, i)
		c.bloom[bit>>3] |= 1 << (bit & 7)
	}
}

func (c *circle) inBloom(dest uint64) bool {
	if c.bloom == nil {
		return false
	}
	for i := range uint64(bloomHashes) {
		if bit := bloomBit(dest, i); c.bloom[bit>>3]>>(bit&7)&1 == 0 {
			return false
		}
	}
	return true
}

// bloomBit takes the bits of a filter from the halves of one hash (Kirsch and Mitzenmacher 2006).
func bloomBit(dest, i uint64) uint64 { return (dest>>32 + i*(dest&0xffffffff|1)) % (8 * bloomBytes) }

// destinationHash is a cryptographic hash, cut to 64 bits, so that nobody finds a name that passes for a known one. Networks of IPv4,
// which are most, have room in 64 bits: they are only stirred, so that no two are alike.
func destinationHash(f *enrich.Flow) uint64 {
	if f.PeerIs == nil && f.PeerName == "" && f.Peer.Is4() {
		return stir((f.Peer.Lo>>8&0xffffff)<<24 | uint64(f.PeerPort)<<8 | uint64(f.Proto))
	}
	var room [320]byte
	b := append(room[:0], f.Proto, byte(f.PeerPort>>8), byte(f.PeerPort))
	switch {
	case f.PeerIs != nil:
		b = append(append(b, 'w'), f.PeerIs.Workload...)
	case f.PeerName != "":
		b = append(append(b, 'n'), owner(f.PeerName)...)
	default:
		b = binary.BigEndian.AppendUint64(append(b, '6'), f.Peer.Hi>>16)
	}
	return hashOf(b)
}

// stir is a one-to-one function of 64 bits whose output looks random (the finaliser of SplitMix64, Steele, Lea, Flood 2014).
func stir(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

func shortHash(s string) uint64 { return hashOf([]byte(s)) }

func hashOf(b []byte) uint64 {
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}

// tenants are domains below which every name belongs to somebody else.
var tenants = []string{
	"amazonaws.com", "cloudfront.net", "azurewebsites.net", "core.windows.net", "azureedge.net", "cloudapp.net", "azure.com", "googleapis.com",
	"run.app", "appspot.com", "web.app", "workers.dev", "pages.dev", "r2.dev", "herokuapp.com", "github.io", "gitlab.io", "netlify.app",
	"vercel.app", "ngrok.io", "ngrok-free.app", "ngrok.app", "trycloudflare.com", "digitaloceanspaces.com", "duckdns.org", "fastly.net",
	"onrender.com", "fly.dev", "backblazeb2.com", "b-cdn.net", "firebaseio.com", "supabase.co", "myqcloud.com", "aliyuncs.com",
}

// owner is the registered domain of a name, near enough, or the whole name where the domain is shared by many.
func owner(name string) string {
	d := site(name)
	if slices.Contains(tenants, strings.TrimSuffix(d, ".")) || strings.HasSuffix(name, ".core.windows.net") {
		return name
	}
	return d
}
