package enrich

import (
	"regexp"
	"strings"
)

// WorkloadOf is the identity of a container across redeploys, by the first rule that fits (DESIGN.md section 2):
//
//	wharfwatch.workload                      the label's own text
//	compose labels                           compose:<project>/<service>
//	swarm labels                             swarm:<service>
//	pod labels                               k8s:<namespace>/<owner>/<container>
//	a name that the engine made up           image:<repository>
//	any other name                           name:<name>/<repository>
//
// The repository is the image without tag and digest, and without Docker Hub's own prefix; an image given by its id has none.
// Compose and plain names mean something on one engine only: scope, when not empty, is appended as "@scope". Labels and names
// are the user's text: they come out bounded and without control characters.
func WorkloadOf(labels map[string]string, name, image, scope string) string {
	get := func(key string) string { return clean(labels[key], 200) }
	if w := get("wharfwatch.workload"); w != "" {
		return w
	}
	if scope != "" {
		scope = "@" + scope
	}
	if project, service := get("com.docker.compose.project"), get("com.docker.compose.service"); project != "" && service != "" {
		return "compose:" + project + "/" + service + scope
	}
	if service := get("com.docker.swarm.service.name"); service != "" {
		return "swarm:" + service
	}
	if pod := get("io.kubernetes.pod.name"); pod != "" {
		return "k8s:" + get("io.kubernetes.pod.namespace") + "/" + podOwner(pod) + "/" + get("io.kubernetes.container.name")
	}
	name, image = clean(strings.TrimPrefix(name, "/"), 200), clean(image, 256)
	repository := Repository(image)
	switch {
	case (name == "" || generatedName(name)) && repository != "":
		return "image:" + repository + scope
	case name == "" || generatedName(name):
		return "image:" + image + scope
	case repository != "":
		return "name:" + name + "/" + repository + scope
	}
	return "name:" + name + scope
}

// Repository is an image reference without tag and digest, and without the prefix of Docker Hub; "" for an image id.
// The colon of a registry's port is not a tag: a tag holds no slash.
// https://pkg.go.dev/github.com/distribution/reference has the grammar.
func Repository(image string) string {
	if imageID.MatchString(image) {
		return ""
	}
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	for _, prefix := range []string{"index.docker.io/", "docker.io/"} {
		image = strings.TrimPrefix(image, prefix)
	}
	return strings.TrimPrefix(image, "library/")
}

// What docker run accepts as an id: the digest, or 12 to 64 hex digits. Fewer digits are far more often a name (cafe, beef).
var imageID = regexp.MustCompile(`^(sha256:[0-9a-f]{1,64}|[0-9a-f]{12,64})$`)

// podOwner takes off what controllers append to their own names: a Deployment's template hash and the five random letters of a
// pod, a CronJob's minutes, a StatefulSet's ordinal. Random letters are drawn from an alphabet without vowels and 0, 1, 3:
// https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go
func podOwner(pod string) string {
	if owner, ok := cutMatch(pod, podRandom); ok {
		if deployment, ok := cutMatch(owner, podTemplate); ok {
			return deployment
		}
		return owner
	}
	owner, _ := cutMatch(pod, podOrdinal)
	return owner
}

var (
	podRandom   = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	podTemplate = regexp.MustCompile(`-([bcdfghjklmnpqrstvwxz2456789]{8,10}|[0-9]{8,10})$`)
	podOrdinal  = regexp.MustCompile(`-[0-9]{1,6}$`)
)

func cutMatch(s string, re *regexp.Regexp) (string, bool) {
	if at := re.FindStringIndex(s); at != nil && at[0] > 0 {
		return s[:at[0]], true
	}
	return s, false
}

// generatedName knows the engine's made-up names: an adjective of its frozen list, an underscore, a surname, and one digit when
// the name was taken (focused_turing3). Surnames are some 250, any lower-case word passes for one: angry_api is mistaken, web_api
// is not. https://github.com/moby/moby/blob/v28.5.2/pkg/namesgenerator/names-generator.go
func generatedName(name string) bool {
	adjective, surname, ok := strings.Cut(name, "_")
	if !ok || !strings.Contains(adjectives, " "+adjective+" ") {
		return false
	}
	if n := len(surname); n > 1 && surname[n-1] >= '0' && surname[n-1] <= '9' {
		surname = surname[:n-1]
	}
	return surname != "" && strings.Trim(surname, "abcdefghijklmnopqrstuvwxyz") == ""
}

const adjectives = " admiring adoring affectionate agitated amazing angry awesome beautiful blissful bold boring brave busy " +
	"charming clever compassionate competent condescending confident cool cranky crazy dazzling determined " +
	"distracted dreamy eager ecstatic elastic elated elegant eloquent epic exciting fervent festive flamboyant " +
	"focused friendly frosty funny gallant gifted goofy gracious great happy hardcore heuristic hopeful hungry " +
	"infallible inspiring intelligent interesting jolly jovial keen kind laughing loving lucid magical modest " +
	"musing mystifying naughty nervous nice nifty nostalgic objective optimistic peaceful pedantic pensive " +
	"practical priceless quirky quizzical recursing relaxed reverent romantic sad serene sharp silly sleepy stoic " +
	"strange stupefied suspicious sweet tender thirsty trusting unruffled upbeat vibrant vigilant vigorous " +
	"wizardly wonderful xenodochial youthful zealous zen "
