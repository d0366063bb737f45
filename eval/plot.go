package eval

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Plot is a picture: horizontal bars from 0 to 1 per group, or lines over a logarithmic axis.
type Plot struct {
	File   string   `json:"file"` // without .svg
	Title  string   `json:"title"`
	Axis   string   `json:"axis"`             // what the long axis shows
	Groups []string `json:"groups,omitempty"` // of bars, from above
	Series []Series `json:"series"`
}

// Series is one colour: a bar in each group (NaN-free, negative for none), or a line of points.
type Series struct {
	Name string    `json:"name"`
	X    []float64 `json:"x,omitempty"` // ascending, above 0; empty for bars
	Y    []float64 `json:"y"`           // 0 to 1
}

// The colours read on white and on black (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/).
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"}

const (
	plotWidth = 760
	plotLeft  = 210
	plotRight = 24
	plotTop   = 56
)

// SVG draws the plot. Text and axes take the reader's light or dark scheme.
func (p *Plot) SVG() string {
	var b strings.Builder
	height := plotTop + 330
	if len(p.Groups) > 0 {
		height = plotTop + len(p.Groups)*p.groupHeight() + 44
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s" font-family="sans-serif" font-size="12">
<style>text{fill:#24292f}.a{stroke:#8c959f;stroke-width:1}.g{stroke:#8c959f;stroke-opacity:.3}@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>
<text x="12" y="20" font-size="14" font-weight="bold">%s</text>
`, plotWidth, height, html.EscapeString(p.Title), html.EscapeString(p.Title))
	x := 12
	for i, s := range p.Series {
		fmt.Fprintf(&b, `<rect x="%d" y="32" width="10" height="10" fill="%s"/><text x="%d" y="41">%s</text>`+"\n", x, colours[i%len(colours)], x+14, html.EscapeString(s.Name))
		x += 30 + 7*len(s.Name)
	}
	if len(p.Groups) > 0 {
		p.bars(&b, height)
	} else {
		p.lines(&b, height)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p *Plot) groupHeight() int { return 9*len(p.Series) + 9 }

func (p *Plot) bars(b *strings.Builder, height int) {
	const room = plotWidth - plotLeft - plotRight
	for i := range 6 {
		x := plotLeft + room*i/5
		fmt.Fprintf(b, `<line class="g" x1="%d" y1="%d" x2="%d" y2="%d"/><text x="%d" y="%d" text-anchor="middle">%.1f</text>`+"\n", x, plotTop, x, height-36, x, height-22, float64(i)/5)
	}
	for g, name := range p.Groups {
		y := plotTop + g*p.groupHeight() + 4
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-8, y+p.groupHeight()/2+1, html.EscapeString(name))
		for i, s := range p.Series {
			if s.Y[g] < 0 {
				continue
			}
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="8" fill="%s"><title>%s, %s: %.3f</title></rect>`+"\n",
				plotLeft, y+9*i, max(1, room*min(1, s.Y[g])), colours[i%len(colours)], html.EscapeString(name), html.EscapeString(s.Name), s.Y[g])
		}
	}
	fmt.Fprintf(b, `<line class="a" x1="%d" y1="%d" x2="%d" y2="%d"/><text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
		plotLeft, plotTop, plotLeft, height-36, plotLeft+room/2, height-6, html.EscapeString(p.Axis))
}

func (p *Plot) lines(b *strings.Builder, height int) {
	const left, bottom = 60, 44
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range p.Series {
		for _, x := range s.X {
			low, high = min(low, x), max(high, x)
		}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	at := func(x, y float64) (float64, float64) {
		return left + (plotWidth-left-plotRight)*(math.Log10(x)-low)/(high-low), plotTop + (1-y)*float64(height-plotTop-bottom)
	}
	for e := low; e <= high; e++ {
		x, y := at(math.Pow(10, e), 0)
		fmt.Fprintf(b, `<line class="g" x1="%.1f" y1="%d" x2="%.1f" y2="%.1f"/><text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`+"\n", x, plotTop, x, y, x, y+16, math.Pow(10, e))
	}
	for i := range 6 {
		_, y := at(math.Pow(10, low), float64(i)/5)
		fmt.Fprintf(b, `<line class="g" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%.1f</text>`+"\n", left, y, plotWidth-plotRight, y, left-8, y+4, float64(i)/5)
	}
	for i, s := range p.Series {
		var points []string
		for j := range s.X {
			x, y := at(s.X[j], s.Y[j])
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", colours[i%len(colours)], strings.Join(points, " "))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", plotWidth/2, height-6, html.EscapeString(p.Axis))
}
