//! A sequence kept in leaves under counted inner nodes: any position in O(log n).
//!
//! Every large collection is one of these: a list's leaves are packed buffers in list order, a
//! table's are sorted by hash, a sorted set's by score. The tree knows positions only; what order the leaves keep is
//! theirs, told by the `mark` of each leaf's first element.
//!
//! Nodes are reference-counted: a clone is a capture in O(1), and a writer copies only the nodes on its
//! way that a capture still holds. No operation touches more than a few nodes, so none stalls at any size.

use std::rc::Rc;

use super::mem;

/// Most children of an inner node; nodes below a quarter of it are joined with a neighbour.
const CHILDREN_MAX: usize = 32;
/// What a reference-counted node holds beside itself.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// A run of elements.
#[expect(
    clippy::len_without_is_empty,
    reason = "the tree keeps no empty leaf but an empty tree's"
)]
pub trait Leaf: Clone + Default {
    /// What orders the first element among the others, kept beside the pointer to the leaf.
    type Mark: Copy;

    fn len(&self) -> usize;
    fn heap_bytes(&self) -> usize;
    /// Of the first element; asked only of leaves that have one.
    fn mark(&self) -> Self::Mark;
    /// Has more than a leaf should, and more than one element.
    fn is_overfull(&self) -> bool;
    /// Takes out a tail that becomes the next leaf. Element `edited` is what made it overfull. Both are left with elements.
    fn split(&mut self, edited: usize) -> Self;
    /// One of the two has too little to stand alone, and both fit in one.
    fn joins(&self, next: &Self) -> bool;
    fn append(&mut self, next: &Self);
}

#[derive(Clone)]
enum Node<L: Leaf> {
    Leaf(L),
    Inner(Vec<Child<L>>),
}

#[derive(Clone)]
struct Child<L: Leaf> {
    len: usize,
    mark: L::Mark,
    node: Rc<Node<L>>,
}

/// Leaves in order.
#[derive(Clone)]
pub struct Tree<L: Leaf> {
    root: Rc<Node<L>>,
    len: usize,
    heap_bytes: usize,
}

/// Which leaf an edit goes to when its position is where one leaf ends and the next starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that ends there: something is put in.
    Before,
    /// The one that starts there: an element that exists is meant.
    At,
}

impl<L: Leaf> Default for Tree<L> {
    fn default() -> Tree<L> {
        Tree::from_leaf(L::default())
    }
}

impl<L: Leaf> Tree<L> {
    pub fn from_leaf(leaf: L) -> Tree<L> {
        let (len, root) = (leaf.len(), Node::Leaf(leaf));
        Tree {
            len,
            heap_bytes: root.heap_bytes(),
            root: Rc::new(root),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all nodes, as if no capture shared them.
    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// The only leaf, when there is but one.
    pub fn only_leaf(&self) -> Option<&L> {
        match &*self.root {
            Node::Leaf(leaf) => Some(leaf),
            Node::Inner(_) => None,
        }
    }

    pub fn last_leaf(&self) -> &L {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(children) => node = &children[children.len() - 1].node,
            }
        }
    }

    /// The leaf of element `at`, and which of the leaf's elements it is. Past the end: the last leaf.
    pub fn leaf_at(&self, mut at: usize) -> (&L, usize) {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return (leaf, at),
                Node::Inner(children) => {
                    let (child, rest) = child_at(children, at, Side::At);
                    at = rest;
                    node = &children[child].node;
                }
            }
        }
    }

    /// Goes down to the last leaf whose first element `keeps`, or to the first leaf. `keeps` is true of some first
    /// elements, then false of all after them.
    pub fn leaf_of(&self, keeps: impl Fn(First<'_, L>) -> bool) -> &L {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(children) => node = &children[last_kept(children, &keeps)].node,
            }
        }
    }

    /// As [`Tree::leaf_of`], with the number of elements before that leaf.
    pub fn descend(&self, keeps: impl Fn(First<'_, L>) -> bool) -> (usize, &L) {
        let (mut before, mut node) = (0, &*self.root);
        loop {
            match node {
                Node::Leaf(leaf) => return (before, leaf),
                Node::Inner(children) => {
                    let child = last_kept(children, &keeps);
                    before += children[..child].iter().map(|c| c.len).sum::<usize>();
                    node = &children[child].node;
                }
            }
        }
    }

    /// Lets `change` edit the leaf of position `at`, given which of the leaf's elements that is. A leaf that grew
    /// too large is split, one that became small joined with a neighbour, an empty one taken out.
    pub fn edit<R>(&mut self, at: usize, side: Side, change: impl FnOnce(&mut L, usize) -> R) -> R {
        self.edit_on(Position { at, side }, |leaf, way| {
            (change(leaf, way.at), way.at)
        })
    }

    /// As [`Tree::edit`], of the leaf that [`Tree::leaf_of`] finds. With its result `change` says which of the leaf's
    /// elements it edited.
    pub fn edit_leaf_of<R>(
        &mut self,
        keeps: impl Fn(First<'_, L>) -> bool,
        change: impl FnOnce(&mut L) -> (R, usize),
    ) -> R {
        self.edit_on(Marks(keeps), |leaf, _| change(leaf))
    }

    fn edit_on<W: Way<L>, R>(
        &mut self,
        mut way: W,
        change: impl FnOnce(&mut L, &W) -> (R, usize),
    ) -> R {
        let copied = make_own(&mut self.root);
        let root = Rc::make_mut(&mut self.root);
        let edited = edit_node(root, &mut way, change);
        let mut delta = copied + edited.heap_delta;
        if let Some(right) = edited.right {
            let left = std::mem::replace(root, Node::Inner(Vec::with_capacity(2)));
            let left = Child::new(left);
            if let Node::Inner(children) = root {
                children.push(left);
                children.push(right);
            }
            delta += root.heap_bytes() as isize;
        }
        self.len = self.len.wrapping_add_signed(edited.len_delta);
        while let Node::Inner(children) = &mut *root
            && children.len() == 1
        {
            let only = children.pop().expect("it has one child").node;
            delta -= (root.heap_bytes() + only.heap_bytes()) as isize;
            *root = Rc::unwrap_or_clone(only);
            delta += root.heap_bytes() as isize;
        }
        self.heap_bytes = self.heap_bytes.wrapping_add_signed(delta);
        edited.result
    }

    /// Hands out the leaves that hold elements from `from` on, each with the first of its elements that is meant.
    pub fn leaves_from(&self, from: usize) -> impl Iterator<Item = (&L, usize)> {
        let mut at = from;
        std::iter::from_fn(move || {
            if at >= self.len {
                return None;
            }
            let (leaf, first) = self.leaf_at(at);
            at += leaf.len() - first;
            Some((leaf, first))
        })
    }

    /// Hands out the leaves that hold the elements up to and with `from`, backwards, each with the last of its elements that is meant.
    pub fn leaves_back_from(&self, from: usize) -> impl Iterator<Item = (&L, usize)> {
        let mut left = (from + 1).min(self.len);
        std::iter::from_fn(move || {
            let (leaf, last) = self.leaf_at(left.checked_sub(1)?);
            left -= last + 1;
            Some((leaf, last))
        })
    }

    /// Takes leaves off the end until about `limit` elements are gone; true once nothing is left. For trees
    /// that are thrown away: they can be asked nothing in between.
    pub fn free_some(&mut self, limit: usize) -> bool {
        let mut freed = 0;
        while freed < limit {
            if free_last(&mut self.root, &mut freed) {
                *self = Tree::default();
                return true;
            }
        }
        false
    }
}

/// The first element of a child, as [`Tree::descend`] shows it.
pub struct First<'a, L: Leaf> {
    pub mark: L::Mark,
    node: &'a Rc<Node<L>>,
}

impl<'a, L: Leaf> First<'a, L> {
    /// The leaf that starts with the element: a few pointers away, so ask only when marks are equal.
    pub fn leaf(&self) -> &'a L {
        let mut node = &**self.node;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(children) => node = &children[0].node,
            }
        }
    }
}

impl<L: Leaf> Child<L> {
    fn new(node: Node<L>) -> Child<L> {
        Child {
            len: node.len(),
            mark: node.mark(),
            node: Rc::new(node),
        }
    }
}

impl<L: Leaf> Node<L> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    fn mark(&self) -> L::Mark {
        match self {
            Node::Leaf(leaf) => leaf.mark(),
            Node::Inner(children) => children[0].mark,
        }
    }

    /// Bytes of this node without those below it.
    fn heap_bytes(&self) -> usize {
        mem::block(COUNTS_BYTES + size_of::<Node<L>>())
            + match self {
                Node::Leaf(leaf) => leaf.heap_bytes(),
                Node::Inner(children) => mem::vec(children),
            }
    }

    /// True when one of two neighbours is too small to stand alone and both fit in one node.
    fn joins(&self, next: &Node<L>) -> bool {
        match (self, next) {
            (Node::Leaf(one), Node::Leaf(other)) => one.joins(other),
            (Node::Inner(one), Node::Inner(other)) => {
                one.len().min(other.len()) < CHILDREN_MAX / 4
                    && one.len() + other.len() <= CHILDREN_MAX * 3 / 4
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("neighbours are of one height")
            }
        }
    }

    fn append(&mut self, next: &Node<L>) {
        match (self, next) {
            (Node::Leaf(one), Node::Leaf(other)) => one.append(other),
            (Node::Inner(one), Node::Inner(other)) => {
                mem::reserve(one, other.len());
                one.extend_from_slice(other);
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("neighbours are of one height")
            }
        }
    }
}

/// What an edit left for the level above.
struct Edited<L: Leaf, R> {
    result: R,
    right: Option<Child<L>>,
    len_delta: isize,
    heap_delta: isize,
}

/// Which child position `at` falls to, and the position within it.
fn child_at<L: Leaf>(children: &[Child<L>], mut at: usize, side: Side) -> (usize, usize) {
    let last = children.len() - 1;
    for (index, child) in children[..last].iter().enumerate() {
        if at < child.len || (at == child.len && side == Side::Before) {
            return (index, at);
        }
        at -= child.len;
    }
    (last, at)
}

/// The last child whose first element `keeps`, or the first child.
fn last_kept<L: Leaf>(children: &[Child<L>], keeps: impl Fn(First<'_, L>) -> bool) -> usize {
    let kept = children.partition_point(|child| {
        keeps(First {
            mark: child.mark,
            node: &child.node,
        })
    });
    kept.saturating_sub(1)
}

/// How an edit finds its leaf.
trait Way<L: Leaf> {
    /// Which child the way goes on to.
    fn child(&mut self, children: &[Child<L>]) -> usize;
}

/// By position; `at` becomes the position within the child.
struct Position {
    at: usize,
    side: Side,
}

impl<L: Leaf> Way<L> for Position {
    fn child(&mut self, children: &[Child<L>]) -> usize {
        let (child, within) = child_at(children, self.at, self.side);
        self.at = within;
        child
    }
}

/// By the first elements of leaves.
struct Marks<F>(F);

impl<L: Leaf, F: Fn(First<'_, L>) -> bool> Way<L> for Marks<F> {
    fn child(&mut self, children: &[Child<L>]) -> usize {
        last_kept(children, &self.0)
    }
}

/// Makes a node that a capture holds the writer's own: by how much its bytes changed, for a copy may take less.
fn make_own<L: Leaf>(node: &mut Rc<Node<L>>) -> isize {
    if Rc::get_mut(node).is_some() {
        return 0;
    }
    let before = node.heap_bytes();
    Rc::make_mut(node).heap_bytes() as isize - before as isize
}

fn edit_node<L: Leaf, W: Way<L>, R>(
    node: &mut Node<L>,
    way: &mut W,
    change: impl FnOnce(&mut L, &W) -> (R, usize),
) -> Edited<L, R> {
    let children = match node {
        Node::Leaf(leaf) => {
            let len_before = leaf.len() as isize;
            let heap_before = leaf.heap_bytes() as isize;
            let (result, edited) = change(leaf, way);
            let len_delta = leaf.len() as isize - len_before;
            let right = leaf
                .is_overfull()
                .then(|| Child::new(Node::Leaf(leaf.split(edited))));
            return Edited {
                result,
                len_delta,
                heap_delta: heap_of(&right) + leaf.heap_bytes() as isize - heap_before,
                right,
            };
        }
        Node::Inner(children) => children,
    };
    let room_before = children.capacity();
    let index = way.child(children);
    let child = &mut children[index];
    let copied = make_own(&mut child.node);
    let below = edit_node(Rc::make_mut(&mut child.node), way, change);
    let mut heap_delta = copied + below.heap_delta;
    let gone_right = below.right.as_ref().map_or(0, |right| right.len);
    child.len = child.len.wrapping_add_signed(below.len_delta) - gone_right;
    if child.len > 0 {
        child.mark = child.node.mark();
    }
    if let Some(right) = below.right {
        mem::reserve(children, 1);
        children.insert(index + 1, right);
    } else if child.len == 0 {
        heap_delta -= children.remove(index).node.heap_bytes() as isize;
        mem::give_back(children);
    } else if below.len_delta < 0 {
        heap_delta += join_neighbours(children, index);
    }
    let right = (children.len() > CHILDREN_MAX)
        .then(|| Child::new(Node::Inner(children.split_off(CHILDREN_MAX / 2))));
    // Its own bytes are those of its children's array.
    let room = children.capacity();
    if room != room_before {
        let bytes = |room: usize| mem::block(room * size_of::<Child<L>>()) as isize;
        heap_delta += bytes(room) - bytes(room_before);
    }
    Edited {
        result: below.result,
        len_delta: below.len_delta,
        heap_delta: heap_delta + heap_of(&right),
        right,
    }
}

fn heap_of<L: Leaf>(child: &Option<Child<L>>) -> isize {
    child.as_ref().map_or(0, |c| c.node.heap_bytes() as isize)
}

/// Joins child `index` with a neighbour if one of them is too small: by how much the nodes' bytes changed.
fn join_neighbours<L: Leaf>(children: &mut Vec<Child<L>>, index: usize) -> isize {
    for left in [index.wrapping_sub(1), index] {
        let Some(next) = left.checked_add(1) else {
            continue;
        };
        if next >= children.len() || !children[left].node.joins(&children[next].node) {
            continue;
        }
        let gone = children.remove(next);
        let kept = &mut children[left];
        let before = kept.node.heap_bytes() + gone.node.heap_bytes();
        Rc::make_mut(&mut kept.node).append(&gone.node);
        kept.len += gone.len;
        mem::give_back(children);
        return children[left].node.heap_bytes() as isize - before as isize;
    }
    0
}

/// Frees the last leaf below `node`; true when nothing is left there for its owner to keep.
fn free_last<L: Leaf>(node: &mut Rc<Node<L>>, freed: &mut usize) -> bool {
    match Rc::get_mut(node) {
        // A capture holds it: letting go of it is all there is to do.
        None => {
            *freed += 1;
            true
        }
        Some(Node::Leaf(leaf)) => {
            *freed += leaf.len().max(1);
            true
        }
        Some(Node::Inner(children)) => {
            if let Some(last) = children.last_mut()
                && free_last(&mut last.node, freed)
            {
                children.pop();
            }
            children.is_empty()
        }
    }
}

#[cfg(test)]
impl<L: Leaf> Tree<L> {
    /// Bytes counted node by node, and how many nodes no capture shares.
    pub(super) fn survey(&self) -> (usize, usize) {
        fn below<L: Leaf>(node: &Rc<Node<L>>, owned: bool) -> (usize, usize) {
            let owned = owned && Rc::strong_count(node) == 1;
            let (mut bytes, mut nodes) = (node.heap_bytes(), usize::from(owned));
            match &**node {
                Node::Leaf(leaf) => assert!(leaf.len() > 0, "an empty leaf stayed"),
                Node::Inner(children) => {
                    assert!(!children.is_empty() && children.len() <= CHILDREN_MAX);
                    for child in children {
                        assert_eq!(child.len, child.node.len(), "a count is wrong");
                        let (b, n) = below(&child.node, owned);
                        (bytes, nodes) = (bytes + b, nodes + n);
                    }
                }
            }
            (bytes, nodes)
        }
        if self.is_empty() {
            return (self.root.heap_bytes(), 0);
        }
        below(&self.root, true)
    }
}
