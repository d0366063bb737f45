package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/console"
)

func newAccessCommand(g *globals) *cobra.Command {
	return group("access", "Users and tokens of the web console and the API", newAccessAdd(g), newAccessList(g), newAccessPassword(g), newAccessRemove(g))
}

func newAccessAdd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a user with a random password, or with --token a token; it is shown this once", Args: cobra.ExactArgs(1),
		Long: "A scope says what may be done: read looks, triage also acts on incidents, allow rules and silences, admin also on receivers\n" +
			"and on users and tokens. Passwords are kept as argon2id, tokens as SHA-256.",
		Example: "  wharfwatch access add alice --scope triage\n  wharfwatch access add prometheus --token --scope read",
	}
	out := g.outputFlag(cmd)
	token := cmd.Flags().Bool("token", false, "a token for a program (Authorization: Bearer …) instead of a user")
	scope := cmd.Flags().String("scope", "read", "read, triage or admin")
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		kind := console.User
		if *token {
			kind = console.Token
		}
		in := map[string]string{"kind": kind, "name": args[0], "scope": *scope}
		return g.secret(ctx, out, "/access", in)
	})
	return cmd
}

// secret asks for one and prints it.
func (g *globals) secret(ctx context.Context, out *output, path string, in any) error {
	return g.with(ctx, writing, func(c *client) error {
		var item json.RawMessage
		if err := c.call(ctx, http.MethodPost, path, nil, in, &item); err != nil {
			return err
		}
		return print(out, []json.RawMessage{item}, "", []string{"KIND", "NAME", "SCOPE", "SECRET"}, func(s console.Secret) []string {
			return []string{s.Kind, s.Name, s.Scope.String(), s.Secret}
		})
	})
}

func newAccessList(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List users and tokens, without their secrets", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/access", nil)
			if err != nil {
				return err
			}
			return print(out, list, "no users and no tokens", []string{"KIND", "NAME", "SCOPE", "CREATED"}, func(a console.Account) []string {
				return []string{a.Kind, a.Name, a.Scope.String(), readable(a.Created)}
			})
		})
	})
	return cmd
}

func newAccessPassword(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "password NAME", Short: "Give a user another random password, shown this once, and log the user out everywhere", Args: cobra.ExactArgs(1),
	}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		return g.secret(ctx, out, "/access/users/"+url.PathEscape(args[0])+"/password", struct{}{})
	})
	return cmd
}

func newAccessRemove(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a user, or with --token a token; it holds at once", Args: cobra.ExactArgs(1)}
	token := cmd.Flags().Bool("token", false, "a token instead of a user")
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		kind := console.User
		if *token {
			kind = console.Token
		}
		return g.with(ctx, writing, func(c *client) error {
			if err := c.call(ctx, http.MethodDelete, "/access/"+kind+"/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintln(g.stdout, clean(args[0], false)+" removed")
			return nil
		})
	})
	return cmd
}
