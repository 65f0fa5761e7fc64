/* One swap after another at one cabinet: RIDERS riders, slot E for the deposit, slots F0 and F1 charged. Power cuts
   anywhere. The network delivers PREPARED, GRANT and CANCEL never, once or many times, in any order and arbitrarily
   late (every message ever sent stays deliverable). The journal is sent go-back-N: the backend ingests in order.
   A pulse may open the door, do nothing, or pull the bolt while the door sticks shut and opens later.
   A restart compares the whole cabinet with ACCEPT's inventory (rule R5) unless NO_R5 is defined. LIE: the flash may
   lose the last INTENT of a dispense or a return. BUG_...: defects on purpose, each of which must be found.
   Not modelled: verification, reviews. Change this model first, then the protocol. */
#ifndef NS
#define NS 3
#endif
#ifndef MAXC
#define MAXC 2
#endif
#ifndef RIDERS
#define RIDERS 1
#endif
#define MAXJ 34
mtype = {NONE, RET, CL_RET, ACCEPT, VOID, BOOT, DEP, DISP, TAKEN, CL_NODEP, CL_OWED, CL_DONE};
mtype = {P_BOOT, P_IDLE, P_PREPED, P_PULSE_E, P_WAIT_E, P_CHOOSE, P_PULSE_F, P_WAIT_F, P_PULSE_R, P_WAIT_R, P_CLOSE};
mtype = {S_IDLE, S_ACC, S_DEPD, S_DISP, S_RET, S_TAKEN};
mtype = {B_NEW, B_REQ, B_GRANTED, B_ACTIVE, B_CLOSED};

typedef Rec { mtype t; byte s; byte b }
Rec j[MAXJ]; byte jl = 0; byte bl = 0;            /* journal, backend cursor */

/* durable agent state = fold(journal) */
mtype js = S_IDLE; byte jsw = 0; byte jx = 0; bit jk = 0;  /* jk=1: owed (dispense only) */
byte inv = 0; byte boots = 0;                                    /* durable boot counter */
/* volatile agent state */
mtype pc = P_BOOT; byte nonce = 0; byte nsw = 0; byte crashes = 0; byte nonces = 0; bit altd = 0; byte accBoot = 0;

/* physical */
bit eDoor = 0; bit eP = 0; bit fDoor[2]; bit fP[2];
bit eRel = 0; bit fRel[2];                          /* bolt pulled, door still shut */
byte held[RIDERS]; byte put[RIDERS]; byte taken[RIDERS];   /* by the rider of the swap that runs */
bit emptied = 0;                                    /* staff or the next rider took what was in E */

/* backend, durable */
mtype bs[NS+1]; bit bkind[NS+1]; byte bboot[NS+1]; byte credit[RIDERS]; byte count = 0; byte nreq = 0; byte who[NS+1];
/* network: sent sets */
byte prepNonce[NS+1]; byte prepBoot[NS+1];         /* last PREP per swap (0 none) */
bit arr[NS+1]; bit voided[NS+1]; byte lastBoot = 0; /* backend: PREPARED has arrived; VOID and BOOT ingested */
bit  cancel[NS+1];                                  /* sent, and not answered yet */
bit  gr[NS+1]; byte grNonce[NS+1]; bit grKind[NS+1];

#define J(T,S) j[jl].t = T; j[jl].s = S; j[jl].b = boots; jl = jl+1
#ifdef BUG_NOBOLT
#define F_CLOSED(i) (!fDoor[i])
#define E_CLOSED (!eDoor)
#else
#define F_CLOSED(i) (!fDoor[i] && !fRel[i])
#define E_CLOSED (!eDoor && !eRel)
#endif
#define ME who[jsw]
#define ACTIVE(i) (bs[i]==B_REQ || bs[i]==B_GRANTED || bs[i]==B_ACTIVE)

inline close_disp() {   /* sensors of slot jx are stable: door closed */
  if
  :: !fP[jx] -> J(TAKEN, jsw); js = S_TAKEN; pc = P_CLOSE
  :: fP[jx]  ->
     if
     :: pc==P_WAIT_F && !altd -> altd = 1; jx = 1-jx; 
        if :: fP[jx] && F_CLOSED(jx) -> J(DISP, jsw); pc = P_PULSE_F
           :: else -> jx = 1-jx; J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE fi
     :: pc==P_WAIT_F && !jk && boots==accBoot && F_CLOSED(0) && F_CLOSED(1) && E_CLOSED -> /* own battery back */
        J(RET, jsw); js = S_RET; pc = P_PULSE_R
     :: J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE
     fi
  fi
}

active proctype Agent() {
  fP[0] = 1; fP[1] = 1; held[0] = 1;
#if RIDERS > 1
  held[1] = 1;
#endif
  do
  /* ---- boot / recovery: never opens a door ---- */
  :: atomic { pc==P_BOOT && jl < MAXJ-3 -> boots++; J(BOOT,0);
       if
       :: js==S_IDLE -> pc = P_IDLE
       :: js==S_ACC && !jk -> pc = P_WAIT_E
       :: js==S_ACC && jk  ->
#ifndef NO_R5
            if :: !F_CLOSED(0) || !fP[0] -> jx = 0 :: else -> jx = 1 fi;
            if :: (fP[0]+fP[1]==inv && F_CLOSED(0) && F_CLOSED(1)) -> J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE
               :: else -> altd = 1; pc = P_WAIT_F fi
#else
            J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE
#endif
       :: js==S_DEPD ->
#ifndef NO_R5
            if :: !F_CLOSED(0) || !fP[0] -> jx = 0 :: else -> jx = 1 fi;
            if :: (fP[0]+fP[1]==inv && F_CLOSED(0) && F_CLOSED(1) && E_CLOSED && eP) -> J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE
               :: (fP[0]+fP[1]==inv && F_CLOSED(0) && F_CLOSED(1) && !(E_CLOSED && eP)) -> js = S_RET; pc = P_WAIT_R
               :: else -> altd = 1; pc = P_WAIT_F fi
#else
            J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE
#endif
       :: js==S_DISP ->
#ifdef BUG_EARLYCLOSE
            if :: fP[jx] -> J(CL_OWED, jsw); js = S_IDLE; pc = P_IDLE :: else -> J(TAKEN,jsw); js = S_TAKEN; pc = P_CLOSE fi
#else
#ifndef NO_R5
            if :: !jk && !(E_CLOSED && eP) -> js = S_RET; pc = P_WAIT_R     /* only a return opens E after the deposit */
               :: else -> altd = 1; pc = P_WAIT_F fi
#else
            altd = 1; pc = P_WAIT_F
#endif
#endif
       :: js==S_RET -> pc = P_WAIT_R
       :: js==S_TAKEN -> pc = P_CLOSE
       fi }
  /* ---- prepare: expose a nonce for the newest requested swap ---- */
  :: atomic { pc==P_IDLE && nreq>0 && bs[nreq]==B_REQ && prepNonce[nreq]==0 && E_CLOSED && F_CLOSED(0) && F_CLOSED(1) && jl < MAXJ-7 ->
       nonces++; nonce = nonces; nsw = nreq; prepNonce[nsw] = nonce; prepBoot[nsw] = boots; pc = P_PREPED }
  /* ---- grant ---- */
  :: atomic { pc==P_PREPED && gr[nsw] && grNonce[nsw]==nonce ->
       if
       :: (grKind[nsw]==1 || (!eP && E_CLOSED)) -> J(ACCEPT,nsw); js = S_ACC; inv = fP[0]+fP[1]; accBoot = boots; jsw = nsw; jk = grKind[nsw]; altd = 0; nonce = 0;
            if :: jk -> pc = P_CHOOSE :: else -> pc = P_PULSE_E fi
       :: else -> J(VOID,nsw); nonce = 0; pc = P_IDLE
       fi }
  :: atomic { pc==P_PREPED -> J(VOID,nsw); nonce = 0; pc = P_IDLE }      /* timeout */
  /* a cancel that comes for a swap that is not the one prepared, perhaps a boot later, is answered once */
  :: atomic { pc==P_IDLE && js==S_IDLE && nreq>0 && cancel[nreq] && jl < MAXJ-7 -> cancel[nreq] = 0; J(VOID,nreq) }
#ifdef BUG_NOFENCE
  :: atomic { pc==P_IDLE && nreq>0 && gr[nreq] && jl < MAXJ-7 && (grKind[nreq]==1 || (!eP && !eDoor)) ->     /* stale grant accepted, no nonce check */
       J(ACCEPT,nreq); js = S_ACC; inv = fP[0]+fP[1]; accBoot = boots; jsw = nreq; jk = grKind[nreq]; altd = 0;
       if :: jk -> pc = P_CHOOSE :: else -> pc = P_PULSE_E fi }
#endif
  /* ---- deposit ---- */
  :: atomic { pc==P_PULSE_E -> eDoor = 1; pc = P_WAIT_E }
  :: atomic { pc==P_PULSE_E -> pc = P_WAIT_E }                            /* pulse failed */
  :: atomic { pc==P_PULSE_E -> eRel = 1; pc = P_WAIT_E }                  /* bolt pulled, door sticks */
  :: atomic { pc==P_WAIT_E && E_CLOSED ->
       if :: eP -> J(DEP,jsw); js = S_DEPD; if :: boots==j[jl-1].b && altd==0 -> pc = P_CHOOSE :: J(CL_OWED,jsw); js = S_IDLE; pc = P_IDLE fi
          :: else -> J(CL_NODEP,jsw); js = S_IDLE; pc = P_IDLE fi }
  /* ---- dispense ---- */
  :: atomic { pc==P_CHOOSE ->
       if
       :: fP[0] && F_CLOSED(0) -> jx = 0;
#ifndef BUG_NOINTENT
          js = S_DISP; J(DISP,jsw);
#endif
          pc = P_PULSE_F
       :: fP[1] && F_CLOSED(1) -> jx = 1;
#ifndef BUG_NOINTENT
          js = S_DISP; J(DISP,jsw);
#endif
          pc = P_PULSE_F
       :: !(fP[0]&&F_CLOSED(0)) && !(fP[1]&&F_CLOSED(1)) -> J(CL_OWED,jsw); js = S_IDLE; pc = P_IDLE
       fi }
  :: atomic { pc==P_PULSE_F -> fDoor[jx] = 1; pc = P_WAIT_F }
  :: atomic { pc==P_PULSE_F -> pc = P_WAIT_F }                            /* pulse failed */
  :: atomic { pc==P_PULSE_F -> fRel[jx] = 1; pc = P_WAIT_F }              /* bolt pulled, door sticks */
  :: atomic { pc==P_WAIT_F && F_CLOSED(jx) -> close_disp() }
  :: atomic { pc==P_CLOSE -> J(CL_DONE,jsw); js = S_IDLE; pc = P_IDLE }
  /* ---- own battery back ---- */
  :: atomic { pc==P_PULSE_R -> eDoor = 1; pc = P_WAIT_R }
  :: atomic { pc==P_PULSE_R -> pc = P_WAIT_R }
  :: atomic { pc==P_PULSE_R -> eRel = 1; pc = P_WAIT_R }
  :: atomic { pc==P_WAIT_R && E_CLOSED -> if :: eP -> J(CL_OWED,jsw) :: else -> J(CL_RET,jsw) fi; js = S_IDLE; pc = P_IDLE }
#ifdef BUG_OPENDOORALT
  :: atomic { pc==P_WAIT_F && fDoor[jx] && fP[jx] && !altd && fP[1-jx] -> altd = 1; jx = 1-jx; J(DISP,jsw); pc = P_PULSE_F }
#endif
  od
}

active proctype Power() {
  do :: atomic { crashes < MAXC && pc!=P_BOOT -> crashes++;
#ifdef LIE
       if :: (js==S_DISP && jl>bl && j[jl-1].t==DISP && (jl<2 || j[jl-2].t!=DISP)) -> if :: jl--; if :: jk -> js = S_ACC :: else -> js = S_DEPD fi :: skip fi
          :: (js==S_RET && jl>bl && j[jl-1].t==RET) -> if :: jl--; js = S_DISP :: skip fi
          :: else fi;
#endif
       pc = P_BOOT; nonce = 0; nsw = 0; altd = 1 } od
}

active proctype Rider() {
  do
  :: atomic { nreq < NS && (nreq==0 || !ACTIVE(nreq)) -> nreq++; bs[nreq] = B_REQ;
#if RIDERS > 1
       if :: who[nreq] = 0 :: who[nreq] = 1 fi
#endif
       }
#if RIDERS > 1
  :: atomic { pc==P_IDLE && js==S_IDLE && bl==jl && E_CLOSED && eP && !emptied && (nreq==0 || !ACTIVE(nreq)) -> eP = 0; emptied = 1 }
#endif
  :: atomic { eDoor && !eP && held[ME]>0 -> eP = 1; held[ME]--; put[ME]++ }
  :: atomic { eDoor && eP && put[ME]>taken[ME] -> eP = 0; held[ME]++; put[ME]-- }
  :: atomic { eDoor -> eDoor = 0 }
  :: atomic { fDoor[0] && fP[0] -> fP[0] = 0; taken[ME]++; assert(taken[ME] <= put[ME]) }
  :: atomic { fDoor[1] && fP[1] -> fP[1] = 0; taken[ME]++; assert(taken[ME] <= put[ME]) }
  :: atomic { fDoor[0] && !fP[0] && taken[ME]>0 -> fP[0] = 1; taken[ME]-- }
  :: atomic { fDoor[1] && !fP[1] && taken[ME]>0 -> fP[1] = 1; taken[ME]-- }
  :: atomic { fDoor[0] -> fDoor[0] = 0 }
  :: atomic { fDoor[1] -> fDoor[1] = 0 }
  :: atomic { eRel && !eDoor -> eRel = 0; eDoor = 1 }
  :: atomic { fRel[0] && !fDoor[0] -> fRel[0] = 0; fDoor[0] = 1 }
  :: atomic { fRel[1] && !fDoor[1] -> fRel[1] = 0; fDoor[1] = 1 }
  od
}

active proctype Backend() {
  byte i;
  do
  :: atomic { nreq>0 && prepNonce[nreq]!=0 && !arr[nreq] -> arr[nreq] = 1 }     /* PREPARED arrives, at last */
  /* grant a prepared swap, once, unless its boot is over or its nonce void */
#ifdef BUG_STALEPREP
  :: atomic { nreq>0 && bs[nreq]==B_REQ && arr[nreq] ->
#else
  :: atomic { nreq>0 && bs[nreq]==B_REQ && arr[nreq] && prepBoot[nreq]>=lastBoot && !voided[nreq] ->
#endif
       bs[nreq] = B_GRANTED; bboot[nreq] = prepBoot[nreq];
       if :: credit[who[nreq]]>0 -> credit[who[nreq]]--; bkind[nreq] = 1 :: else -> bkind[nreq] = 0 fi;
       gr[nreq] = 1; grNonce[nreq] = prepNonce[nreq]; grKind[nreq] = bkind[nreq] }
#ifdef BUG_TIMEOUT
  /* server decides by its own clock that the grant was never used */
  :: atomic { nreq>0 && bs[nreq]==B_GRANTED -> bs[nreq] = B_CLOSED; if :: bkind[nreq] -> credit[who[nreq]]++ :: else fi }
#endif
  /* a request that was not granted can be dropped at any time */
  :: atomic { nreq>0 && bs[nreq]==B_REQ -> bs[nreq] = B_CLOSED; cancel[nreq] = 1 }
  /* ingest next journal record (duplicates are no-ops by seq, so not modelled) */
  :: atomic { bl < jl ->
       if
       :: j[bl].t==ACCEPT -> if :: bs[j[bl].s]==B_GRANTED -> bs[j[bl].s] = B_ACTIVE :: else fi
       :: j[bl].t==VOID -> voided[j[bl].s] = 1; if :: bs[j[bl].s]==B_GRANTED -> bs[j[bl].s] = B_CLOSED; if :: bkind[j[bl].s] -> credit[who[j[bl].s]]++ :: else fi
                              :: else fi
       :: j[bl].t==BOOT -> i = 1; lastBoot = j[bl].b;
            do :: i<=NS -> if :: (bs[i]==B_GRANTED && bboot[i] < j[bl].b) -> bs[i] = B_CLOSED; if :: bkind[i] -> credit[who[i]]++ :: else fi
                              :: else fi; i++
               :: else -> break od; i = 0
       :: j[bl].t==TAKEN -> count++
       :: j[bl].t==CL_DONE -> bs[j[bl].s] = B_CLOSED
       :: j[bl].t==CL_OWED -> bs[j[bl].s] = B_CLOSED; credit[who[j[bl].s]]++
       :: j[bl].t==CL_NODEP || j[bl].t==CL_RET -> bs[j[bl].s] = B_CLOSED
       :: else
       fi; bl++ }
  od
}

/* quiescent accounting: everything ingested, nothing open -> exact books */
active proctype Books() {
  do
  :: atomic { pc==P_IDLE && js==S_IDLE && bl==jl && nreq>0 && !ACTIVE(nreq) && !eDoor && !eRel && !fDoor[0] && !fDoor[1] && !fRel[0] && !fRel[1] ->
#if RIDERS > 1
       assert(count == taken[0] + taken[1]); assert(credit[1] == put[1] - taken[1]);
#else
       assert(count == taken[0]);
#endif
       assert(credit[0] == put[0] - taken[0]) }
  /* nothing stays granted that the cabinet knows nothing of */
  :: atomic { pc==P_IDLE && js==S_IDLE && bl==jl && nreq>0 -> assert(bs[nreq]!=B_GRANTED) }
  od
}
