----------------------------- MODULE CutModels -----------------------------
(* Shapes of systems for the models: each .cfg picks some of these. *)
EXTENDS Cut

AllPairs == {c \in Procs \X Procs : c[1] # c[2]}
NoPairs == {}
FromJoiner == {c \in AllPairs : c[1] \in Joiners}
WithJoiner == {c \in AllPairs : c[1] \in Joiners \/ c[2] \in Joiners}
OneWay == {CHOOSE c \in AllPairs : TRUE}

AllQuiesced == [s \in Stores |-> "quiesced"]
AllGated == [s \in Stores |-> "gated"]
AllOwned == [s \in Stores |-> "owned"]

Everybody == [s \in Stores |-> Procs]
\* Each store has one owner, and no process owns two.
OneEach == CHOOSE f \in [Stores -> {{p} : p \in Procs}] : \A s, t \in Stores : f[s] = f[t] => s = t

(* A model in which nothing is ever sealed shows nothing: the first sealed cut is announced. Always true. *)
ASSUME TLCSet(1, FALSE)
Witness == IF snap # {} /\ ~TLCGet(1) THEN PrintT("witness: sealed") /\ TLCSet(1, TRUE) ELSE TRUE

(* What happens after the last cut is over and everybody has let go concerns no invariant: it is not explored. *)
Unfinished == ~(att = AttemptsMax /\ rec[att] \in {"sealed", "aborted"} /\ \A x \in Parts : stage[x] = "out")

(* For the invariants it matters whether somebody knows of an event after somebody's mark, not whose: sets of knowers   *)
(* only grow by union, so states that differ in nothing else have the same future. Counterexamples show the sets.       *)
Knows(m) == [s |-> m.s, e |-> m.e, g |-> m.g, l |-> m.l, k |-> m.k # {}]
View == <<
  parts, sent, got, base, counts, coords, facts, losses, gSent, gGot, life, broken,
  [c \in Channels |-> IF Fifo THEN [i \in DOMAIN chan[c] |-> Knows(chan[c][i])] ELSE {Knows(m) : m \in chan[c]}],
  [x \in Actors |-> know[x] # {}],
  [x \in Parts |-> <<IsMarked(x), cutKnow[x] \subseteq {{}}>>] >>
=============================================================================
